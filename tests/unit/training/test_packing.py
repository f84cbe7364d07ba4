"""Packing tensors of several types into bytes."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from model.training.packing import kinds_of, packed, packed_length, unpacked

TYPES = (torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.uint8, torch.bool)


@given(st.lists(st.tuples(st.sampled_from(TYPES), st.lists(st.integers(0, 3), max_size=3)), min_size=1, max_size=6))
def test_what_is_packed_comes_back(kinds: list[tuple[torch.dtype, list[int]]]) -> None:
    tensors = [torch.randint(0, 2, shape).to(dtype) for dtype, shape in kinds]
    data = packed(tensors)
    assert len(data) == packed_length(kinds_of(tensors))
    for ours, theirs in zip(unpacked(data, kinds_of(tensors)), tensors, strict=True):
        assert ours.dtype == theirs.dtype and torch.equal(ours, theirs)
