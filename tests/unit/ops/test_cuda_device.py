"""The compiled operator on a graphics card. Skipped where there is none."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import ops
from ops.compiled import ms_deform_attn_compiled
from ops.grid_sample import ms_deform_attn_pytorch
from ops.library import IMPLEMENTATION

sys.path.insert(0, str(Path(__file__).parent))
from deform_cases import Inputs, make

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no graphics card"),
    pytest.mark.skipif("cuda" not in IMPLEMENTATION.devices, reason="the library has no CUDA kernels"),
]


def on(inputs: Inputs, device: str) -> Inputs:
    value, locations, weights = (tensor.to(device) for tensor in (inputs.value, inputs.locations, inputs.weights))
    return replace(inputs, value=value, locations=locations, weights=weights)


def on_card_and_processor(inputs: Inputs, device: str = "cuda") -> Iterator[tuple[Tensor, Tensor]]:
    """Output and gradients of the card, and of the PyTorch formulation on the processor."""
    results = []
    for function, place in ((ms_deform_attn_compiled, device), (ms_deform_attn_pytorch, "cpu")):
        leaves = on(inputs, place).leaves()
        output = function(*leaves.arguments())
        gradient = torch.randn(output.shape, generator=torch.Generator().manual_seed(1)).to(output.dtype)
        output.backward(gradient.to(place))
        results.append([tensor.detach().cpu() for tensor in (output, *leaves.gradients())])
    return zip(*results, strict=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(
    "sizes",
    [
        {"channels": 32, "heads": 8, "queries": 100},
        {"channels": 7, "points": 3},
        {"channels": 272, "heads": 1},
        {"channels": 71, "shapes": ((1, 1),), "queries": 1},
        {"batch": 0},
        {"queries": 0},
    ],
)
def test_agrees_with_the_pytorch_formulation(dtype: torch.dtype, sizes: dict) -> None:
    inputs = make(dtype=dtype, **sizes)
    if inputs.locations.numel():
        inputs.locations[:, 0, 0, 0] = float("nan")
        inputs.locations[:, -1, -1, -1] = 1e30
    half = dtype in (torch.bfloat16, torch.float16)
    for mine, expected in on_card_and_processor(inputs):
        assert mine.dtype == expected.dtype
        tolerance = 2 * torch.finfo(dtype).eps if half and mine.dtype == dtype else 5e-6
        if expected.numel():
            assert float((mine - expected).abs().max()) <= tolerance * float(expected.abs().max())


@pytest.mark.parametrize("channels", [4, 7, 30])
def test_gradients_are_derivatives(channels: int) -> None:
    inputs = on(make(dtype=torch.float64, batch=1, queries=3, heads=2, points=2, channels=channels), "cuda").leaves()

    def call(value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
        return ms_deform_attn_compiled(value, inputs.shapes, locations, weights)

    arguments = (inputs.value, inputs.locations, inputs.weights)
    assert torch.autograd.gradcheck(call, arguments, eps=1e-6, nondet_tol=1e-9)  # sums come in no fixed order


def test_operators_keep_torch_rules() -> None:
    inputs = on(make(), "cuda")
    tests = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
    torch.library.opcheck(torch.ops.segue.ms_deform_attn, inputs.leaves().flat_arguments(), test_utils=tests)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_leaves_locations_alone(dtype: torch.dtype) -> None:
    inputs = on(make(queries=30), "cuda")
    with torch.autocast("cuda", dtype=dtype):
        output = ops.ms_deform_attn(*inputs.arguments())
    assert output.dtype == dtype
    assert torch.equal(output, ms_deform_attn_compiled(*replace(inputs, value=inputs.value.to(dtype)).arguments()))


def test_deterministic_mode_is_respected() -> None:
    leaves = on(make(), "cuda").leaves()
    try:
        torch.use_deterministic_algorithms(True)
        with pytest.raises(RuntimeError, match="no deterministic CUDA implementation"):
            ops.ms_deform_attn(*leaves.arguments()).sum().backward()
        torch.use_deterministic_algorithms(True, warn_only=True)
        with pytest.warns(UserWarning, match="no deterministic CUDA implementation"):
            ops.ms_deform_attn(*leaves.arguments()).sum().backward()
    finally:
        torch.use_deterministic_algorithms(False)


def test_runs_on_the_current_stream() -> None:
    inputs = on(make(shapes=((64, 64),), queries=2000, channels=32, heads=8), "cuda")
    expected = ms_deform_attn_compiled(*inputs.arguments())
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(20_000_000)  # whoever ignores the stream reads the value before it is written
        value = inputs.value * 1.0
        output = ms_deform_attn_compiled(*replace(inputs, value=value).arguments())
    stream.synchronize()
    assert torch.equal(output, expected)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two graphics cards")
def test_another_card_than_the_current_one() -> None:
    for mine, expected in on_card_and_processor(make(), "cuda:1"):
        assert float((mine - expected).abs().max()) <= 5e-6 * float(expected.abs().max())
