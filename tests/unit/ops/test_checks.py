"""Wrong arguments: one clear message each, whatever computes the operator."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

import ops
from ops.checks import level_shapes
from ops.errors import AttentionInputError

sys.path.insert(0, str(Path(__file__).parent))
from deform_cases import make


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value": lambda v: v[0]}, "value must be"),
        ({"value": lambda v: v.int()}, "float32, float64, bfloat16 or float16"),
        ({"value": lambda v: v[:, :-1]}, "23 positions"),
        ({"value": lambda v: v[:1]}, "batch 1"),
        ({"value": lambda v: v.double()}, "sampling_locations must be torch.float64"),
        ({"value": lambda v: v.to("meta")}, "one device"),
        ({"locations": lambda t: t[..., :1]}, "sampling_locations must be"),
        ({"locations": lambda t: t.bfloat16()}, "off by pixels"),
        ({"weights": lambda t: t[..., :1]}, "attention_weights must be"),
        ({"weights": lambda t: t.half()}, "attention_weights must be torch.float32"),
    ],
)
def test_tensors_that_do_not_fit(change: dict, message: str) -> None:
    inputs = make()
    arguments = {"value": inputs.value, "locations": inputs.locations, "weights": inputs.weights}
    for name, function in change.items():
        arguments[name] = function(arguments[name])
    with pytest.raises(AttentionInputError, match=message):
        ops.ms_deform_attn(arguments["value"], inputs.shapes, arguments["locations"], arguments["weights"])


def test_levels_that_do_not_fit() -> None:
    inputs = make()
    with pytest.raises(AttentionInputError, match="3 levels"):
        ops.ms_deform_attn(inputs.value, [(5, 5)], inputs.locations, inputs.weights)
    with pytest.raises(AttentionInputError, match="26 pixels together"):
        ops.ms_deform_attn(inputs.value, [(3, 6), (2, 2), (4, 1)], inputs.locations, inputs.weights)


@pytest.mark.parametrize("shapes", [[], [(0, 3)], [(2, -1)], [3, 4], [(1, 2, 3)], [(1.0, 2.0)], None])
def test_level_sizes_that_make_no_sense(shapes: object) -> None:
    with pytest.raises(AttentionInputError):
        level_shapes(shapes)


def test_level_sizes_may_be_a_tensor_on_the_cpu_only() -> None:
    assert level_shapes(torch.tensor([[2, 3], [1, 1]])) == ((2, 3), (1, 1))
    with pytest.raises(AttentionInputError, match="as Python ints"):
        level_shapes(torch.ones(2, 2, dtype=torch.int64, device="meta"))
