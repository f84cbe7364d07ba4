"""Batches and plans for methods of the per-pixel family."""

from collections.abc import Iterator

import pytest
import torch

from model.config.reading import parse_config
from model.data.loading.pixel_batch import PixelBatch
from model.workflow.plan import Plan


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


def plan_of(*methods: object, **network: object) -> Plan:
    """The plan of some methods on a generated dataset with one recipe; ``network`` adds to that of the recipe."""
    recipe = {
        "family": "per-pixel",
        "network": {"name": "deeplabv3", "backbone": "tiny", **network},
        "optimiser": {"name": "sgd", "learning_rate": 0.1},
        "base": {"iterations": 10},
        "increment": {"iterations": 5},
        "batch_size": 2,
        "transform": {"name": "full-image"},
    }
    experiment = {"dataset": "toy", "scenarios": ["6-3"], "recipe": "small", "methods": list(methods)}
    experiment["memory"] = {"selection": "class-balanced", "size": 4}
    content = {"schema_version": 1, "datasets": {"toy": {"kind": "shapes", "stuff": 6, "things": 6}}}
    return Plan(parse_config({**content, "recipes": {"small": recipe}, "experiments": [experiment]}))


@pytest.fixture
def plan():
    """See :func:`plan_of`."""
    return plan_of
