"""The PyTorch formulation against the definition, written as plain loops."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ops.grid_sample import ms_deform_attn_pytorch

sys.path.insert(0, str(Path(__file__).parent))
from deform_cases import Inputs, make


def by_definition(inputs: Inputs) -> Tensor:
    batch, _, heads, channels = inputs.value.shape
    _, queries, _, _, points, _ = inputs.locations.shape
    output = torch.zeros(batch, queries, heads, channels, dtype=inputs.value.dtype)
    for b in range(batch):
        for q in range(queries):
            for h in range(heads):
                first = 0
                for level, (height, width) in enumerate(inputs.shapes):
                    for p in range(points):
                        x, y = inputs.locations[b, q, h, level, p].tolist()
                        x, y = x * width - 0.5, y * height - 0.5
                        for column in (math.floor(x), math.floor(x) + 1):
                            for line in (math.floor(y), math.floor(y) + 1):
                                if 0 <= column < width and 0 <= line < height:
                                    share = (1 - abs(x - column)) * (1 - abs(y - line))
                                    row = inputs.value[b, first + line * width + column, h]
                                    output[b, q, h] += inputs.weights[b, q, h, level, p] * share * row
                    first += height * width
    return output.flatten(2)


def test_definition() -> None:
    inputs = make(dtype=torch.float64, batch=1, queries=3, heads=2, channels=2, points=2)
    torch.testing.assert_close(ms_deform_attn_pytorch(*inputs.arguments()), by_definition(inputs), rtol=0, atol=1e-13)


@pytest.mark.parametrize("far", [float("nan"), float("inf"), -1e30])
def test_far_locations_sample_nothing_and_get_no_gradient(far: float) -> None:
    inputs = make()
    inputs.locations[...] = far
    leaves = inputs.leaves()
    output = ms_deform_attn_pytorch(*leaves.arguments())
    output.sum().backward()
    assert float(output.detach().abs().max()) == 0.0
    assert all(float(gradient.abs().max()) == 0.0 for gradient in leaves.gradients())


def test_empty_inputs_keep_the_graph() -> None:
    leaves = make(queries=0).leaves()
    ms_deform_attn_pytorch(*leaves.arguments()).sum().backward()
    assert float(leaves.gradients()[0].abs().max()) == 0.0
