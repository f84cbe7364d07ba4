"""The compiled operator against the PyTorch formulation and against PyTorch's own rules for operators."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import ops
from ops.compiled import ms_deform_attn_compiled
from ops.grid_sample import ms_deform_attn_pytorch
from ops.library import IMPLEMENTATION

sys.path.insert(0, str(Path(__file__).parent))
from deform_cases import Inputs, make

pytestmark = pytest.mark.skipif("cpu" not in IMPLEMENTATION.devices, reason="the compiled library is not in use")

HALVES = [torch.bfloat16, torch.float16]
ODD_SIZES = [
    {"channels": 4},
    {"channels": 7, "points": 1},
    {"channels": 30, "shapes": ((2, 3),)},
    {"channels": 71, "shapes": ((1, 1),), "points": 1, "queries": 1},
    {"channels": 1, "heads": 1, "queries": 5, "points": 3},
]
EMPTY = [{"batch": 0}, {"queries": 0}, {"points": 0}, {"heads": 0}, {"channels": 0}]


def run_both(inputs: Inputs, seed: int = 1) -> tuple[list[Tensor], list[Tensor]]:
    """Output and gradients of value, locations and weights: compiled, PyTorch."""
    results = []
    for implementation in (ms_deform_attn_compiled, ms_deform_attn_pytorch):
        leaves = inputs.leaves()
        output = implementation(*leaves.arguments())
        weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(seed)).to(output.dtype)
        output.backward(weights)
        results.append([output.detach(), *leaves.gradients()])
    return results[0], results[1]


def assert_relative(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    """Relative to the largest entry; types and shapes must agree."""
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    if expected.numel():
        assert float((actual.double() - expected.double()).abs().max()) <= tolerance * float(
            expected.double().abs().max()
        )


@pytest.mark.parametrize("sizes", [{}, {"channels": 64, "heads": 8, "queries": 70}, *ODD_SIZES, *EMPTY])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 5e-6), (torch.float64, 1e-13)])
def test_agrees_with_the_pytorch_formulation(sizes: dict, dtype: torch.dtype, tolerance: float) -> None:
    for actual, expected in zip(*run_both(make(dtype=dtype, **sizes)), strict=True):
        assert_relative(actual, expected, tolerance)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("half_weights", [False, True])
@pytest.mark.parametrize("sizes", [{"channels": 32}, {"channels": 7}, {"channels": 21, "points": 3}])
def test_half_precision_is_summed_in_single_precision(dtype: torch.dtype, half_weights: bool, sizes: dict) -> None:
    inputs = make(dtype=dtype, weight_dtype=dtype if half_weights else None, queries=40, **sizes)
    spacing = torch.finfo(dtype).eps
    actual, expected = run_both(inputs)
    for mine, reference in zip(actual, expected, strict=True):
        # Both sum in single precision and round once; the formulation also sums a half-precision gradient of the weights.
        assert_relative(mine, reference, 2 * spacing if mine.dtype == dtype else 5e-6)
    exact = ms_deform_attn_pytorch(
        inputs.value.double(), inputs.shapes, inputs.locations.double(), inputs.weights.double()
    )
    assert_relative(actual[0].double(), exact, 1.01 * spacing / 2 + 1e-6)


@pytest.mark.parametrize("sizes", ODD_SIZES)
def test_gradients_are_derivatives(sizes: dict) -> None:
    inputs = make(dtype=torch.float64, batch=1, **{"queries": 3, "heads": 2, "points": 2, **sizes}).leaves()

    def call(value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
        return ms_deform_attn_compiled(value, inputs.shapes, locations, weights)

    assert torch.autograd.gradcheck(call, (inputs.value, inputs.locations, inputs.weights), eps=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_operators_keep_torch_rules(dtype: torch.dtype) -> None:
    inputs = make(dtype=dtype)
    tests = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
    torch.library.opcheck(torch.ops.segue.ms_deform_attn, inputs.leaves().flat_arguments(), test_utils=tests)
    output = ms_deform_attn_compiled(*inputs.arguments())
    backward = torch.ops.segue.ms_deform_attn_backward
    torch.library.opcheck(backward, (torch.ones_like(output), *inputs.flat_arguments()), test_utils=tests)


@pytest.mark.parametrize("dynamic", [False, True])
def test_compiles_as_one_graph(dynamic: bool) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(ops.ms_deform_attn, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for sizes in ({}, {"shapes": ((6, 4), (2, 2), (3, 1)), "queries": 9}):
        eager, traced = make(**sizes).leaves(), make(**sizes).leaves()
        ops.ms_deform_attn(*eager.arguments()).sum().backward()
        output = compiled(*traced.arguments())
        output.sum().backward()
        for mine, expected in zip(traced.gradients(), eager.gradients(), strict=True):
            assert torch.equal(mine, expected)


@pytest.mark.parametrize("dtype", HALVES)
def test_autocast_leaves_locations_alone(dtype: torch.dtype) -> None:
    inputs = make(queries=30)
    leaves = inputs.leaves()
    with torch.autocast("cpu", dtype=dtype):
        output = ops.ms_deform_attn(*leaves.arguments())
    assert output.dtype == dtype
    rounded = Inputs(inputs.value.to(dtype), inputs.shapes, inputs.locations, inputs.weights)
    assert torch.equal(output, ms_deform_attn_compiled(*rounded.arguments()))
    output.sum().backward()
    assert [gradient.dtype for gradient in leaves.gradients()] == [torch.float32] * 3


def test_autocast_leaves_double_precision_alone() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert ops.ms_deform_attn(*make(dtype=torch.float64).arguments()).dtype == torch.float64


def test_any_number_of_threads_gives_the_same_bits() -> None:
    inputs, threads = make(shapes=((20, 20), (9, 7)), queries=500, channels=16, heads=5), torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(run_both(inputs)[0])
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(mine, expected) for mine, expected in zip(other, results[0], strict=True))


def test_non_contiguous_inputs() -> None:
    inputs = make(queries=11)
    strided = Inputs(
        inputs.value.transpose(1, 2).contiguous().transpose(1, 2),
        inputs.shapes,
        inputs.locations.flip(1).flip(1).transpose(0, 1).contiguous().transpose(0, 1),
        torch.stack([inputs.weights, inputs.weights], dim=-1)[..., 0],
    )
    assert not any(tensor.is_contiguous() for tensor in (strided.value, strided.locations, strided.weights))
    assert torch.equal(ops.ms_deform_attn(*strided.arguments()), ops.ms_deform_attn(*inputs.arguments()))
    leaves, plain = strided.leaves(), inputs.leaves()
    ops.ms_deform_attn(*leaves.arguments()).transpose(0, 1).square().sum().backward()
    ops.ms_deform_attn(*plain.arguments()).transpose(0, 1).square().sum().backward()
    for mine, expected in zip(leaves.gradients(), plain.gradients(), strict=True):
        assert torch.equal(mine, expected)


@pytest.mark.parametrize("far", [float("nan"), float("inf"), float("-inf"), 1e30, -1e30, 1e9, 3.0, -2.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_far_locations_sample_nothing(far: float, dtype: torch.dtype) -> None:
    inputs = make(dtype=dtype, queries=20)
    near = make(dtype=dtype, queries=20)
    inputs.locations[:, ::3, :, :, 1] = far
    near.locations[:, ::3, :, :, 1] = -5.0
    actual, expected = run_both(inputs)
    assert torch.equal(actual[0], ms_deform_attn_compiled(*near.arguments()))
    assert float(actual[2][:, ::3, :, :, 1].abs().max()) == 0.0
    for mine, reference in zip(actual, expected, strict=True):
        assert_relative(mine, reference, 5e-6)


PLACES = {"inside": 0.5, "over the edge": 0.02, "outside": 1.4, "far": 3.0, "huge": 1e30, "not a number": float("nan")}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("channels", [1, 7, 8, 16, 30, 32, 71, 128])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_weights_of_nan_reach_what_they_reach_in_the_formulation(place: str, channels: int, dtype: torch.dtype) -> None:
    inputs = make(shapes=((3, 5), (4, 2)), dtype=dtype, channels=channels, queries=5)
    inputs.locations[:, 1, 0, 1, 2] = PLACES[place]
    inputs.weights[:, 1, 0, 1, 2] = float("nan")
    output, _, locations, _ = actual = run_both(inputs)[0]
    for mine, expected in zip(actual, run_both(inputs)[1], strict=True):
        assert torch.equal(mine.isnan(), expected.isnan())
        finite = ~expected.isnan()
        assert finite.any()
        assert_relative(mine[finite], expected[finite], 0.02 if dtype == torch.bfloat16 else 5e-6)
    assert output.view(2, 5, 3, channels)[:, 1, 0].isnan().all(), "0 · NaN is NaN, in every lane"
    assert locations.isnan().any() == (place in ("inside", "over the edge", "outside")), "far locations get no gradient"


def test_pixels_outside_do_not_leak() -> None:
    inputs = make(shapes=((2, 2),), batch=1, queries=1, heads=1, channels=20, points=1)
    inputs.value[:, 0] = float("inf")  # the pixel that a clamped index would read
    inputs.locations[...] = 2.0
    assert float(ms_deform_attn_compiled(*inputs.arguments()).abs().max()) == 0.0


def test_more_than_two_to_the_31_elements() -> None:
    height, width, channels = 4096, 4097, 128
    assert height * width * channels > 2**31
    memory = np.zeros((1, height * width, 1, channels), dtype=np.int16)  # pages are taken when they are touched
    value = torch.from_numpy(memory).view(torch.bfloat16)
    row = torch.arange(channels, dtype=torch.bfloat16)
    value[0, -1, 0] = row
    centre = torch.tensor([(width - 0.5) / width, (height - 0.5) / height])
    output = ops.ms_deform_attn(value, [(height, width)], centre.view(1, 1, 1, 1, 1, 2), torch.ones(1, 1, 1, 1, 1))
    assert_relative(output[0, 0], row, 1e-2)


def test_second_derivatives_are_refused() -> None:
    inputs = make().leaves()
    output = ms_deform_attn_compiled(*inputs.arguments()).square().sum()
    (gradient,) = torch.autograd.grad(output, inputs.value, create_graph=True)
    with pytest.raises(NotImplementedError, match="once"):
        gradient.sum().backward()


@pytest.mark.parametrize(
    "change",
    [
        lambda v, loc, w, s: (v[0], loc, w, s),
        lambda v, loc, w, s: (v, loc[..., :1], w, s),
        lambda v, loc, w, s: (v, loc, w[:, :, :, :, :1], s),
        lambda v, loc, w, s: (v, loc[:1], w[:1], s),
        lambda v, loc, w, s: (v, loc, w, s[:-1]),
        lambda v, loc, w, s: (v, loc, w, [*s[:-2], 3, 3]),
        lambda v, loc, w, s: (v, loc, w, [*s[:-2], 2**40, 2**40]),
        lambda v, loc, w, s: (v, loc, w, [*s[:-2], -4, -2]),
        lambda v, loc, w, s: (v.double(), loc, w, s),
        lambda v, loc, w, s: (v, loc.half(), w, s),
        lambda v, loc, w, s: (v, loc, w.half(), s),
        lambda v, loc, w, s: (v.int(), loc, w, s),
    ],
)
def test_the_operator_itself_refuses_what_could_leave_its_memory(change) -> None:
    arguments = change(*make().flat_arguments())
    with pytest.raises(RuntimeError, match="ms_deform_attn"):
        torch.ops.segue.ms_deform_attn(*arguments)


SCRIPT = """
import sys
sys.path.insert(0, {folder!r})
from deform_cases import make
import torch
from ops.compiled import ms_deform_attn_compiled
from ops.grid_sample import ms_deform_attn_pytorch
from ops.library import IMPLEMENTATION
print(IMPLEMENTATION.processor)
for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
    for channels in (32, 16, 7, 71):
        tolerance = 1e-5 if dtype in (torch.float32, torch.float64) else 2 * torch.finfo(dtype).eps
        results = []
        for implementation in (ms_deform_attn_compiled, ms_deform_attn_pytorch):
            leaves = make(dtype=dtype, channels=channels, queries=40).leaves()
            output = implementation(*leaves.arguments())
            output.backward(torch.linspace(-1, 1, output.numel()).view_as(output).to(dtype))
            results.append([output.detach(), *leaves.gradients()])
        for mine, expected in zip(*results):
            worst = float((mine.double() - expected.double()).abs().max() / expected.double().abs().max())
            assert worst <= tolerance, (dtype, channels, worst)
        for place in (0.02, 1.4, 3.0):
            results = []
            for implementation in (ms_deform_attn_compiled, ms_deform_attn_pytorch):
                leaves = make(dtype=dtype, channels=channels)
                leaves.locations[:, 0, 0, 0, 0], leaves.weights[:, 0, 0, 0, 0] = place, float("nan")
                leaves = leaves.leaves()
                output = implementation(*leaves.arguments())
                output.sum().backward()
                results.append([output.detach(), *leaves.gradients()])
            assert results[0][0].isnan().any()
            for mine, expected in zip(*results):
                assert torch.equal(mine.isnan(), expected.isnan()), (dtype, channels, place)
"""


@pytest.mark.parametrize(("capability", "processor"), [("default", "plain"), ("avx2", "AVX2")])
def test_smaller_instruction_sets(capability: str, processor: str) -> None:
    if IMPLEMENTATION.processor == "plain":
        pytest.skip("this processor has neither AVX2 nor AVX-512: the tests above ran the plain kernels")
    root = Path(ops.__file__).parents[1]
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": capability, "PYTHONPATH": str(root)}
    script = SCRIPT.format(folder=str(Path(__file__).parent))
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [processor]
