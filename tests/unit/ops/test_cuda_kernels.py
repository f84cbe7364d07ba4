"""The graphics card's kernels, run on the processor thread by thread against the PyTorch formulation.

This shows that their indices, sums and exchanges between threads are right; not that they are fast, nor what a card does.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

import ops
from ops.grid_sample import ms_deform_attn_pytorch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from deform_cases import Inputs, make  # noqa: E402, RUF100

TYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    file = tmp_path_factory.mktemp("cuda") / "cuda_on_cpu.so"
    include = [f"-I{Path(ops.__file__).parent / 'csrc'}", f"-I{Path(torch.__file__).parent / 'include'}"]
    command = [compiler, "-std=c++20", "-O1", "-fPIC", "-shared", "-pthread", *include]
    done = subprocess.run(
        [*command, str(HERE / "cuda_on_cpu.cpp"), "-o", str(file)], capture_output=True, text=True, check=False
    )
    if "barrier: No such file" in done.stderr:
        pytest.skip("the compiler has no std::barrier (gcc 11 or newer has)")
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(file))


def pointer(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def run(library: ctypes.CDLL, inputs: Inputs, pack: bool) -> list[tuple[Tensor, Tensor]]:
    """Output and gradients of value, locations and weights: of the kernels, and of the formulation."""
    leaves = inputs.leaves()
    expected = ms_deform_attn_pytorch(*leaves.arguments())
    gradient = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1)).to(expected.dtype)
    expected.backward(gradient)

    batch, positions, heads, channels = inputs.value.shape
    _, queries, _, levels, points, _ = inputs.locations.shape
    numbers = (ctypes.c_int64 * 7)(batch, positions, heads, channels, queries, levels, points)
    flat = [size for pair in inputs.shapes for size in pair]
    shapes = (ctypes.c_int64 * len(flat))(*flat)
    output = torch.full_like(expected, float("nan"))
    results = [
        torch.zeros_like(inputs.value, dtype=inputs.locations.dtype),
        torch.full_like(inputs.locations, float("nan")),
        torch.full_like(inputs.weights, float("nan")),
    ]
    inputs_of_call = [pointer(tensor) for tensor in (inputs.value, inputs.locations, inputs.weights)]
    pointers = [pointer(tensor) for tensor in (output, gradient, *results)]
    kind = TYPES.index(inputs.value.dtype)
    assert library.run_on_cpu(kind, int(pack), numbers, shapes, *inputs_of_call, *pointers) == 0
    return list(zip([output, *results], [expected, *leaves.gradients()], strict=True))


@pytest.mark.parametrize("place", [0.5, 0.02, 1.4, 3.0, float("nan")])
@pytest.mark.parametrize("pack", [True, False])
def test_weights_of_nan(library: ctypes.CDLL, place: float, pack: bool) -> None:
    inputs = make(channels=8, queries=3)
    inputs.locations[:, 1, 0, 1, 2] = place
    inputs.weights[:, 1, 0, 1, 2] = float("nan")
    for mine, expected in run(library, inputs, pack):
        assert torch.equal(mine.isnan(), expected.isnan())


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize(
    ("sizes", "pack"),
    [
        ({"channels": 32, "queries": 5}, True),
        ({"channels": 32, "queries": 3}, False),
        ({"channels": 24, "heads": 2}, True),  # lanes that are no power of two
        ({"channels": 7, "points": 3}, True),
        (
            {"channels": 272, "heads": 1, "queries": 2, "batch": 1, "points": 2},
            True,
        ),  # longer than a warp holds at once
        ({"channels": 71, "heads": 1, "queries": 2, "batch": 1, "points": 2}, True),
        ({"channels": 8, "shapes": ((1, 1),), "queries": 1, "points": 1}, True),
    ],
)
def test_kernels(library: ctypes.CDLL, dtype: torch.dtype, sizes: dict, pack: bool) -> None:
    inputs = make(dtype=dtype, **sizes)
    inputs.locations[:, 0, 0, 0] = float("nan")
    inputs.locations[:, -1, -1, -1, 0] = 1e30
    (output, expected), *gradients = run(library, inputs, pack)
    half = 2 * torch.finfo(dtype).eps if dtype in (torch.bfloat16, torch.float16) else 0.0
    assert float((output - expected.detach()).abs().max()) <= half * float(expected.detach().abs().max()) + 1e-5
    for mine, reference in gradients:
        tolerance = half if reference.dtype == dtype and half else 5e-6
        assert float((mine - reference).abs().max()) <= tolerance * float(reference.abs().max())
