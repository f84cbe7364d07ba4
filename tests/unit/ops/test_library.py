"""Which implementation runs, and what is said when there is no compiled one."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import ops
from ops.errors import OperatorUnavailableError
from ops.library import Implementation, choose_implementation

ROOT = Path(ops.__file__).parents[1]


def test_auto_without_a_library_warns_once_with_cause_and_cure() -> None:
    with pytest.warns(RuntimeWarning, match="was not built.*setup.py build_ext") as caught:
        chosen = choose_implementation("auto", None)
    assert len(caught) == 1
    assert not chosen.serves("cpu")
    assert chosen.describe() == "pytorch"


def test_a_library_that_cannot_be_loaded_counts_as_missing(tmp_path: Path) -> None:
    file = tmp_path / "_compiled.abi3.so"
    file.write_bytes(b"not a library")
    with pytest.warns(RuntimeWarning, match="cannot be loaded"):
        assert choose_implementation("auto", file).problem
    with pytest.raises(OperatorUnavailableError, match="cannot be loaded"):
        choose_implementation("compiled", file)


def test_compiled_without_a_library_is_an_error() -> None:
    with pytest.raises(OperatorUnavailableError, match=r"setup\.py build_ext"):
        choose_implementation("compiled", None)
    with pytest.raises(OperatorUnavailableError, match="no kernels for cuda"):
        Implementation("compiled", frozenset({"cpu"}), "AVX2").serves("cuda")


def test_pytorch_is_silent() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not choose_implementation("pytorch", None).serves("cpu")


def test_unknown_choice() -> None:
    with pytest.raises(ValueError, match="auto, compiled, pytorch"):
        choose_implementation("cuda", None)


def build(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "setup.py",
        "build_ext",
        "--build-lib",
        str(folder / "lib"),
        "--build-temp",
        str(folder / "temp"),
    ]
    variables = {**os.environ, "CC": "no-such-compiler", "CXX": "no-such-compiler", "SEGUE_BUILD": "cpu", **environment}
    return subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)


def test_installing_without_a_compiler_is_no_failure(tmp_path: Path) -> None:
    done = build(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "the compiled operators were not built" in done.stderr
    assert not list(tmp_path.rglob("*.so"))


def test_a_required_build_fails_loudly(tmp_path: Path) -> None:
    assert build(tmp_path, SEGUE_BUILD="required").returncode != 0
