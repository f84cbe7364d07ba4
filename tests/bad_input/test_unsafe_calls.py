"""No call in the project opens a file in a way that could run code of it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
SOURCES = sorted(
    file for folder in ("model", "ops", "workflow_scripts", "benchmarks") for file in (PROJECT / folder).rglob("*.py")
)
RESTRICTED = PROJECT / "model" / "common" / "weight_files.py"
"""Where an unpickler of ours admits arrays only."""
FORBIDDEN = (
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "_pickle", "cPickle", "dill", "cloudpickle", "joblib.load"),
    *("marshal.load", "marshal.loads", "shelve", "pandas.read_pickle", "torch.jit.load", "torch.hub", "torch.package"),
    *("yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.unsafe_load_all", "yaml.full_load", "yaml.Loader"),
    *("yaml.UnsafeLoader", "yaml.FullLoader", "numpy.lib.format.read_array", "torch.serialization.add_safe_globals"),
    *("builtins.eval", "builtins.exec", "eval", "exec"),
)
MUST_SAY = {"torch.load": ("weights_only", True), "torch.serialization.load": ("weights_only", True)}
MUST_NOT_SAY = {"numpy.load": ("allow_pickle", True)}


def _names(tree: ast.AST) -> dict[str, str]:
    """What every imported name stands for."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _dotted(node: ast.AST, names: dict[str, str]) -> str | None:
    """``np.load`` as ``numpy.load``; None for what is no path of names."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute) and (before := _dotted(node.value, names)) is not None:
        return f"{before}.{node.attr}"
    return None


def unsafe(source: str) -> Iterator[str]:
    """What a module mentions that opens files unsafely."""
    tree = ast.parse(source)
    names = _names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute):
            path = _dotted(node, names)
            if path is not None and any(path == name or path.startswith(f"{name}.") for name in FORBIDDEN):
                yield f"line {node.lineno}: {path}"
        if isinstance(node, ast.Call):
            path = _dotted(node.func, names) or ""
            said = {k.arg: k.value.value if isinstance(k.value, ast.Constant) else "?" for k in node.keywords}
            if path in MUST_SAY and said.get(MUST_SAY[path][0]) is not MUST_SAY[path][1]:
                yield f"line {node.lineno}: {path} without {MUST_SAY[path][0]}={MUST_SAY[path][1]}"
            if path in MUST_NOT_SAY and (said.get(MUST_NOT_SAY[path][0], False) is not False or len(node.args) > 2):
                yield f"line {node.lineno}: {path} with {MUST_NOT_SAY[path][0]}"


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: file.relative_to(PROJECT).as_posix())
def test_no_file_is_opened_in_a_way_that_could_run_code(file: Path) -> None:
    found = list(unsafe(file.read_text(encoding="utf-8")))
    if file == RESTRICTED:
        assert found == [f"line {_line(file, 'class _ArrayUnpickler')}: pickle.Unpickler"]
    else:
        assert not found


def _line(file: Path, start: str) -> int:
    return next(n for n, line in enumerate(file.read_text().splitlines(), 1) if line.startswith(start))


@pytest.mark.parametrize(
    "text",
    [
        "import torch\ntorch.load(p)",
        "import torch\ntorch.load(p, weights_only=False)",
        "import torch as t\nt.load(p, weights_only=flag)",
        "from torch import load\nload(p)",
        "import pickle\npickle.load(f)",
        "from pickle import loads as read\nread(b)",
        "import numpy as np\nnp.load(p, allow_pickle=True)",
        "import numpy as np\nnp.load(p, None, True)",
        "import yaml\nyaml.load(f, Loader=yaml.SafeLoader)",
        "from yaml import unsafe_load\nunsafe_load(f)",
        "from pandas import read_pickle\nread_pickle(f)",
        "eval(text)",
        "import torch.hub\ntorch.hub.load_state_dict_from_url(u)",
        "import pickle\nclass Mine(pickle.Unpickler): pass",
    ],
)
def test_every_unsafe_way_is_noticed(text: str) -> None:
    assert list(unsafe(text))


@pytest.mark.parametrize(
    "text",
    [
        "import torch\ntorch.load(p, weights_only=True)",
        "import numpy as np\nnp.load(p)\nnp.load(p, allow_pickle=False)",
        "import yaml\nyaml.safe_load(f)",
        "network.eval()",
        "import pickle\nraise pickle.UnpicklingError('no')",
    ],
)
def test_safe_ways_are_not(text: str) -> None:
    assert not list(unsafe(text))
