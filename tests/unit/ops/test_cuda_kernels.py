"""The graphics card's kernels, run on the processor thread by thread against the PyTorch formulation.

This shows that their indices, sums and exchanges between threads are right; not that they are fast, nor what a card does.
"""

from __future__ import annotations

import ctypes
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import ops
from ops.attention import ms_deform_attn
from ops.grid_sample import ms_deform_attn_pytorch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from deform_cases import Inputs, make  # noqa: E402, RUF100

TYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
WITHOUT = ["SHARED_FOOTPRINTS", "FOUR_POINTS", "WIDE_ACCESS"]
"""Measures that ``make gpu-check`` leaves out one at a time; the numbers must not depend on them."""
Library = ctypes.CDLL


def compiled(folder: Path, *without: str) -> Library:
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    file = folder / f"cuda_on_cpu{'-'.join(without)}.so"
    include = [f"-I{Path(ops.__file__).parent / 'csrc'}", f"-I{Path(torch.__file__).parent / 'include'}"]
    command = [compiler, "-std=c++17", "-O1", "-fPIC", "-shared", *include]
    command += [f"-DSEGUE_WITHOUT_{name}" for name in without]
    done = subprocess.run(
        [*command, str(HERE / "cuda_on_cpu.cpp"), "-o", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    library = ctypes.CDLL(str(file))
    library.run_on_cpu.restype = ctypes.c_int64
    return library


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    return compiled(tmp_path_factory.mktemp("cuda"))


def pointer(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def in_the_middle(tensor: Tensor) -> Tensor:
    """The same numbers at an address that is no multiple of 16, as a view into a larger tensor has."""
    room = torch.zeros(tensor.numel() + 1, dtype=tensor.dtype)
    moved = room[1:].view_as(tensor)
    assert moved.data_ptr() % 16
    return moved.copy_(tensor)


def run(
    library: Library, inputs: Inputs, aligned: bool = True, descending: bool = False
) -> tuple[list[tuple[Tensor, Tensor]], int]:
    """Output and gradients of value, locations and weights: of the kernels, and of the formulation; 16-byte additions."""
    leaves = inputs.leaves()
    expected = ms_deform_attn_pytorch(*leaves.arguments())
    gradient = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1)).to(expected.dtype)
    expected.backward(gradient)

    batch, positions, heads, channels = inputs.value.shape
    _, queries, _, levels, points, _ = inputs.locations.shape
    numbers = (ctypes.c_int64 * 7)(batch, positions, heads, channels, queries, levels, points)
    flat = [size for pair in inputs.shapes for size in pair]
    shapes = (ctypes.c_int64 * len(flat))(*flat)
    output = torch.full_like(expected, math.nan)
    results = [
        torch.zeros_like(inputs.value, dtype=inputs.locations.dtype),
        torch.full_like(inputs.locations, math.nan),
        torch.full_like(inputs.weights, math.nan),
    ]
    value = inputs.value if aligned else in_the_middle(inputs.value)
    gradient = gradient if aligned else in_the_middle(gradient)
    given_tensors = [pointer(tensor) for tensor in (value, inputs.locations, inputs.weights)]
    pointers = [pointer(tensor) for tensor in (output, gradient, *results)]
    dtype = inputs.value.dtype
    narrow = inputs.weights.dtype != inputs.locations.dtype
    additions = library.run_on_cpu(
        TYPES.index(dtype), int(narrow), int(descending), numbers, shapes, *given_tensors, *pointers
    )
    assert additions >= 0
    return list(zip([output.detach(), *results], [expected.detach(), *leaves.gradients()], strict=True)), additions


def assert_agree(pairs: list[tuple[Tensor, Tensor]], dtype: torch.dtype) -> None:
    half = 2 * torch.finfo(dtype).eps if dtype in (torch.bfloat16, torch.float16) else 0.0
    (output, expected), *gradients = pairs
    assert float((output - expected).abs().max()) <= half * float(expected.abs().max()) + 1e-5
    for mine, reference in gradients:
        tolerance = half if half and dtype in (reference.dtype, mine.dtype) else 5e-6
        assert float((mine - reference).abs().max()) <= tolerance * float(reference.abs().max()) + 1e-7


@pytest.mark.parametrize("place", [0.5, 0.02, 1.4, 3.0, float("nan")])
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("points", [4, 3])
def test_weights_of_nan(library: Library, place: float, aligned: bool, points: int) -> None:
    inputs = make(channels=8, queries=3, points=points)
    inputs.locations[:, 1, 0, 1, 2] = place
    inputs.weights[:, 1, 0, 1, 2] = float("nan")
    for mine, expected in run(library, inputs, aligned)[0]:
        assert torch.equal(mine.isnan(), expected.isnan())


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_that_are_no_numbers_stay_where_they_are_sampled(library: Library, bad: float) -> None:
    inputs = make(channels=8, queries=5)
    inputs.value[0, 3, 1] = bad
    inputs.value[1, -1, 0, 2] = bad
    output, expected = run(library, inputs)[0][0]
    assert not expected.isfinite().all()
    assert torch.equal(output.isfinite(), expected.isfinite())


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("descending", [False, True], ids=["first threads first", "last threads first"])
@pytest.mark.parametrize(
    ("sizes", "aligned"),
    [
        ({"channels": 32, "queries": 5}, True),
        ({"channels": 32, "queries": 3}, False),
        ({"channels": 24, "heads": 2}, True),  # lanes that are no power of two
        ({"channels": 7, "points": 3}, True),
        ({"channels": 16, "points": 8}, True),
        ({"channels": 64, "points": 5, "heads": 1}, True),
        (
            {"channels": 272, "heads": 1, "queries": 2, "batch": 1, "points": 2},
            True,
        ),  # longer than a warp holds at once
        ({"channels": 71, "heads": 1, "queries": 2, "batch": 1, "points": 2}, True),
        ({"channels": 8, "shapes": ((1, 1),), "queries": 1, "points": 1}, True),
    ],
)
def test_kernels(library: Library, dtype: torch.dtype, descending: bool, sizes: dict[str, Any], aligned: bool) -> None:
    inputs = make(dtype=dtype, **sizes)
    inputs.locations[:, 0, 0, 0] = float("nan")
    inputs.locations[:, -1, -1, -1, 0] = 1e30
    assert_agree(run(library, inputs, aligned, descending)[0], dtype)


@settings(deadline=None, max_examples=60)
@given(
    channels=st.integers(1, 70),
    points=st.integers(1, 8),
    heads=st.integers(1, 3),
    queries=st.integers(1, 4),
    shapes=st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=3).map(tuple),
    dtype=st.sampled_from(TYPES),
    narrow=st.booleans(),
    aligned=st.booleans(),
    descending=st.booleans(),
    seed=st.integers(0, 9),
)
def test_any_size(
    library: Library,
    channels: int,
    points: int,
    heads: int,
    queries: int,
    shapes: tuple[tuple[int, int], ...],
    dtype: torch.dtype,
    narrow: bool,
    aligned: bool,
    descending: bool,
    seed: int,
) -> None:
    inputs = make(shapes, 1, queries, heads, channels, points, dtype, dtype if narrow else None, seed)
    pairs, _ = run(library, inputs, aligned, descending)
    assert_agree(pairs, dtype)
    on_processor = ms_deform_attn(*inputs.arguments())
    half = dtype in (torch.bfloat16, torch.float16)
    scale = float(on_processor.abs().max())
    tolerance = 2 * torch.finfo(dtype).eps * scale if half else 1e-5
    assert float((pairs[0][0] - on_processor).abs().max()) <= tolerance


@pytest.mark.parametrize(
    ("dtype", "channels", "aligned", "wide"),
    [
        (torch.float32, 32, True, True),
        (torch.bfloat16, 32, True, True),
        (torch.float16, 8, True, True),
        (torch.float32, 30, True, False),
        (torch.bfloat16, 28, True, False),
        (torch.float32, 32, False, False),
        (torch.float64, 32, True, False),
    ],
    ids=str,
)
def test_value_gradients_are_added_16_bytes_at_a_time(
    library: Library, dtype: torch.dtype, channels: int, aligned: bool, wide: bool
) -> None:
    inputs = make(channels=channels, dtype=dtype)
    additions = run(library, inputs, aligned)[1]
    corners = additions / (channels / 4)
    assert (additions > 0) == wide
    assert corners == int(corners) and corners <= 4 * inputs.weights.numel()


@pytest.mark.parametrize("without", WITHOUT)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_measures_leave_the_numbers_alone(library: Library, tmp_path: Path, without: str, dtype: torch.dtype) -> None:
    inputs = make(channels=32, dtype=dtype)
    pairs, additions = run(library, inputs)
    others, other_additions = run(compiled(tmp_path, without), inputs)
    assert (other_additions == 0) == (without == "WIDE_ACCESS") and additions > 0
    assert_agree([(mine, theirs) for (mine, _), (theirs, _) in zip(pairs, others, strict=True)], dtype)
