"""Recorded inputs and outputs of the released implementations, as test cases.

``$SEGUE_GOLDEN`` names the folder with ``index.json``. Without it every golden test is skipped with the reason; with
``SEGUE_REQUIRE_GOLDEN=1`` a missing folder, or a group without a case, is a failure. A test file of a group is named
``test_<group>.py`` and walks whatever cases the index holds:

    @pytest.mark.parametrize("case", cases("h_metrics", "miou_*"))
    def test_mean_iou(case: Case) -> None:
        recording = load(case)
        assert_close(mine(recording.tensor("x")), recording.arrays["y"], case.group, "float64")

Several tests may share a group; ``test_index.py`` checks that together they take every case of it. Where a group holds cases of
several kinds, what a case contains says which test takes it, not what it is called:

    @pytest.mark.parametrize("case", cases_holding("h_metrics", "confusion"))
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

Precision = Literal["float64", "float32"]

TOLERANCES: dict[str, dict[Precision, float]] = {
    "a_deform_attn": {"float64": 1e-10, "float32": 1e-5},
    "b_mask2former": {"float64": 1e-6, "float32": 1e-4},
    "b_inference": {"float64": 1e-10, "float32": 1e-5},
    "c_matcher_criterion": {"float64": 1e-7, "float32": 1e-5},
    "d_memory": {"float64": 0.0, "float32": 0.0},
    "d_balconpas": {"float64": 1e-7, "float32": 1e-5},
    "e_eclipse": {"float64": 1e-6, "float32": 1e-4},
    "f_comformer": {"float64": 1e-7, "float32": 1e-5},
    "g_mib_losses": {"float64": 1e-9, "float32": 1e-5},
    "g_regularisers": {"float64": 1e-9, "float32": 1e-4},
    "g_cil": {"float64": 1e-9, "float32": 1e-5},
    "g_sdr": {"float64": 1e-9, "float32": 1e-5},
    "g_plop": {"float64": 1e-6, "float32": 1e-5},
    "g_ssul": {"float64": 1e-9, "float32": 1e-5},
    "g_dkd": {"float64": 1e-9, "float32": 1e-5},
    "g_star": {"float64": 1e-9, "float32": 1e-5},
    "g_barm": {"float64": 1e-9, "float32": 1e-5},
    "g_lgkd": {"float64": 1e-9, "float32": 1e-5},
    "g_dft": {"float64": 1e-9, "float32": 1e-5},
    "g_adapter": {"float64": 1e-9, "float32": 1e-5},
    "g_ewf": {"float64": 1e-9, "float32": 1e-5},
    "g_rcil": {"float64": 1e-9, "float32": 1e-5},
    "g_nest": {"float64": 1e-9, "float32": 1e-5},
    "g_mbs": {"float64": 1e-9, "float32": 1e-5},
    "h_metrics": {"float64": 1e-9, "float32": 1e-5},
    "i_simcis": {"float64": 1e-6, "float32": 1e-5},
}
"""Largest accepted difference by group, see :func:`difference`."""

PURELY_RELATIVE = frozenset({"g_regularisers"})
"""Groups whose arrays are tiny or huge: compared relative to their own largest value, however small."""

_handed_out: dict[str, set[str]] = {}


@dataclass(frozen=True)
class Case:
    """One row of the index."""

    group: str
    name: str
    file: Path


@dataclass(frozen=True)
class Recording:
    """What a case holds.

    Attributes:
        arrays: by name, from the ``.npz``; empty if the case is its JSON document alone.
        document: the whole JSON document (``summary``, ``config``, ``notes``, meaning of the arrays).
    """

    arrays: dict[str, np.ndarray]
    document: dict[str, Any]

    @property
    def config(self) -> dict[str, Any]:
        """Hyper-parameters, sizes and rules of the recorded run."""
        return self.document.get("config", {})

    def tensor(self, name: str, dtype: torch.dtype | None = None) -> Tensor:
        """An array as a fresh tensor, as stored unless a type is given."""
        tensor = torch.from_numpy(np.array(self.arrays[name]))
        return tensor if dtype is None else tensor.to(dtype)


def folder() -> Path | None:
    """The folder of golden data, None if the environment names none."""
    value = os.environ.get("SEGUE_GOLDEN")
    return Path(value) if value else None


def required() -> bool:
    """Whether missing golden data are a failure."""
    return os.environ.get("SEGUE_REQUIRE_GOLDEN") == "1"


def absence() -> str | None:
    """Why there are no golden data, None if there are."""
    root = folder()
    if root is None:
        return "SEGUE_GOLDEN is not set: golden data are not at hand"
    if not (root / "index.json").is_file():
        return f"SEGUE_GOLDEN is set to {root}, but there is no index.json in it"
    return None


@cache
def index() -> tuple[Case, ...]:
    """Every case of the index; empty if there are no golden data."""
    root = folder()
    if root is None or absence() is not None:
        return ()
    rows = json.loads((root / "index.json").read_text(encoding="utf-8"))
    return tuple(Case(row["group"], row["case"], root / row["file"]) for row in rows)


def missing(reason: str) -> Any:
    """The parameter of a test that has no case: skipped, or failed where golden data are required (see conftest)."""
    return pytest.param(None, id="no-case", marks=pytest.mark.golden_missing(reason))


def cases(group: str, *patterns: str) -> list[Any]:
    """Parameters for ``pytest.mark.parametrize``: the cases of a group whose names match one of the patterns.

    Args:
        group: as in the index.
        patterns: shell patterns such as ``step_*``; ``!step_*`` leaves names out; none takes the whole group.
    """
    wanted = [pattern for pattern in patterns if not pattern.startswith("!")] or ["*"]
    unwanted = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    found = [
        case
        for case in index()
        if case.group == group
        and any(fnmatchcase(case.name, pattern) for pattern in wanted)
        and not any(fnmatchcase(case.name, pattern) for pattern in unwanted)
    ]
    _handed_out.setdefault(group, set()).update(case.name for case in found)
    if not found:
        return [missing(absence() or f"the index has no case {' '.join(patterns)} in group {group}".replace("  ", " "))]
    return [pytest.param(case, id=case.name) for case in found]


def cases_holding(group: str, *names: str) -> list[Any]:
    """Parameters for ``pytest.mark.parametrize``: the cases of a group that hold something, whatever they are called.

    Args:
        group: as in the index.
        names: shell patterns, each of which an array or a key of the configuration has to match; ``!confusion`` excludes cases
            that hold something of this name.
    """
    found = [case for case in index() if case.group == group and all(_holds(case, name) for name in names)]
    _handed_out.setdefault(group, set()).update(case.name for case in found)
    if not found:
        return [missing(absence() or f"the index has no case with {', '.join(names)} in group {group}")]
    return [pytest.param(case, id=case.name) for case in found]


def _holds(case: Case, name: str) -> bool:
    if name.startswith("!"):
        return not _holds(case, name[1:])
    return any(fnmatchcase(key, name) for key in _contents(case))


@cache
def _contents(case: Case) -> frozenset[str]:
    """Names of the arrays and of the keys of the configuration."""
    document = json.loads(case.file.read_text(encoding="utf-8"))
    return frozenset((*document.get("arrays", ()), *document.get("config", ())))


def handed_out(group: str) -> set[str]:
    """Names of the cases that tests have asked for so far."""
    return _handed_out.get(group, set())


def load(case: Case) -> Recording:
    """Read a case; nothing is unpickled."""
    document = json.loads(case.file.read_text(encoding="utf-8"))
    archive = case.file.with_suffix(".npz")
    if not archive.is_file():
        return Recording({}, document)
    with np.load(archive, allow_pickle=False) as stored:
        return Recording({name: stored[name] for name in stored.files}, document)


def key_lists(pattern: str) -> list[Any]:
    """Parameters for ``pytest.mark.parametrize``: key lists of official checkpoints whose file names match."""
    root = folder()
    found = sorted((root / "keys").glob(pattern)) if root is not None and absence() is None else []
    if not found:
        return [missing(absence() or f"there is no key list {pattern}")]
    return [pytest.param(file, id=file.stem) for file in found]


def read_keys(file: Path) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """Shape and type by key, in the order of the state dict."""
    lines = [line.split("\t") for line in file.read_text(encoding="utf-8").splitlines()]
    return {row[0]: (tuple(json.loads(row[1])), getattr(torch, row[2])) for row in lines if row[0] and row[0][0] != "#"}


def weight(key: str, shape: Sequence[int]) -> np.ndarray:
    """The float32 values that the filling rule gives the state-dict entry ``key``."""
    x = np.random.RandomState(zlib.crc32(key.encode("utf-8"))).standard_normal(tuple(shape))
    if len(shape) >= 2:
        free = ("query_feat", "query_embed", "level_embed", "prompt_feat", "prompt_embed")
        if not any(word in key for word in free):
            gain = 2.0 if len(shape) == 4 else 1.0
            x = x * np.sqrt(gain / np.prod(shape[1:]))
    elif key.endswith("running_var"):
        x = 1 + 0.2 * np.abs(x)
    elif key.endswith("sampling_offsets.bias"):
        pass
    elif key.endswith("conv3.norm.weight"):
        x = 0.2 * (1 + 0.1 * x)
    elif key.endswith("weight"):
        x = 1 + 0.1 * x
    else:
        x = 0.1 * x
    return np.asarray(x, dtype=np.float32)


def fill(module: nn.Module, prefix: str = "", skip: Iterable[str] = ("criterion.",)) -> None:
    """Fill a module in place by the rule; ``prefix`` is put before its keys, keys that start with ``skip`` stay."""
    skipped = tuple(skip)
    with torch.no_grad():
        for key, value in module.state_dict().items():
            if value.is_floating_point() and not key.startswith(skipped):
                value.copy_(torch.from_numpy(weight(prefix + key, tuple(value.shape))))


def unpack_bits(packed: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """A bit-packed mask as booleans of the given shape."""
    bits = np.unpackbits(np.asarray(packed).astype(np.uint8))
    return bits[: int(np.prod(shape))].reshape(tuple(shape)).astype(bool)


def _array(value: Any) -> np.ndarray:
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)


def difference(actual: Any, expected: Any, floor: float = 1.0) -> float:
    """``max|a - b| / max(floor, max|b|)``; equal infinities and NaN at the same places count as equal."""
    a, b = _array(actual).astype(np.float64), _array(expected).astype(np.float64)
    assert a.shape == b.shape, f"shape {a.shape}, recorded {b.shape}"
    if a.size == 0:
        return 0.0
    finite = np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True) or not np.isfinite(a[finite]).all():
        return float("inf")
    if not finite.any():
        return 0.0
    largest = max(floor, float(np.abs(b[finite]).max()))
    return float(np.abs(a[finite] - b[finite]).max()) / largest if largest > 0 else float(np.abs(a[finite]).max())


def assert_close(actual: Any, expected: Any, group: str, precision: Precision, what: str = "") -> None:
    """Fail unless the values agree within the group's tolerance.

    Args:
        actual: our value, tensor or array.
        expected: the recorded value, of the same shape.
        group: decides the tolerance.
        precision: of the computation that is compared, not of the storage.
        what: named in the message.
    """
    error = difference(actual, expected, floor=0.0 if group in PURELY_RELATIVE else 1.0)
    tolerance = TOLERANCES[group][precision]
    assert error <= tolerance, (
        f"{what or 'value'} differs by {error:.3g}, accepted {tolerance:.3g} ({group}, {precision})"
    )
