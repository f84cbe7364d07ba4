"""Batches for methods of the per-pixel family."""

from collections.abc import Iterator

import pytest
import torch

from model.datasets.batch import PixelBatch


def endless_batches(labels: int, size: int = 2, side: int = 32, start: int = 0) -> Iterator[PixelBatch]:
    """Random images with labels 0 … ``labels`` − 1 in square patches; the k-th batch is always the same."""
    k = start
    while True:
        generator = torch.Generator().manual_seed(k)
        coarse = torch.randint(0, labels, (size, side // 8, side // 8), generator=generator)
        yield PixelBatch(
            images=torch.randn(size, 3, side, side, generator=generator),
            labels=coarse.repeat_interleave(8, 1).repeat_interleave(8, 2),
            names=tuple(f"image{k * size + i}" for i in range(size)),
            from_memory=torch.zeros(size, dtype=torch.bool),
        )
        k += 1


@pytest.fixture
def pixel_stream():
    """See :func:`endless_batches`."""
    return endless_batches
