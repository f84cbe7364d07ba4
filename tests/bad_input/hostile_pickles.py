"""Pickles that run code when they are opened, in ways that have been used against loaders of weights.

Each is a function from a marker file, which the code would make, to the bytes of a pickle. ``opens`` in the tests proves that
Python's own unpickler falls for every one of them.
"""

from __future__ import annotations

import builtins
import collections
import functools
import io
import os
import pickle
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core import multiarray

Payload = Callable[[Path], bytes]


class Call:
    """Pickled, it is the call of a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments

    def __call__(self) -> None:
        """Only so that pickle accepts a call in the place of a function; what it makes is called."""


def _dump(content: Any, protocol: int = 2) -> bytes:
    return pickle.dumps(content, protocol=protocol)


def system(marker: Path) -> Call:
    """The plainest one."""
    return Call(os.system, f"touch '{marker}'")


def _by_name(module: str, name: str, argument: str) -> bytes:
    """A call of something that is named by a path with dots, which protocol 4 follows."""

    def text(value: str) -> bytes:
        return b"\x8c" + bytes([len(value.encode())]) + value.encode()

    return b"\x80\x04" + text(module) + text(name) + b"\x93" + text(argument) + b"\x85R."


def _inner_torch(marker: Path) -> bytes:
    stream = io.BytesIO()
    torch.save(system(marker), stream, _use_new_zipfile_serialization=False)
    return stream.getvalue()


def _numpy_file(marker: Path) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array([system(marker)], dtype=object), allow_pickle=True)
    return stream.getvalue()


class _Subtype(np.ndarray):
    """Named in a pickle as the type of an array."""

    def __setstate__(self, state: Any) -> None:
        Path(state).touch()


class _WithState:
    """Its state is set by code of the class that the pickle names."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __setstate__(self, state: dict[str, str]) -> None:
        Path(state["marker"]).touch()


PAYLOADS: dict[str, Payload] = {
    "os.system": lambda marker: _dump(system(marker)),
    "os.system, newest protocol": lambda marker: _dump(system(marker), 5),
    "subprocess.Popen": lambda marker: _dump(Call(subprocess.check_call, ["touch", str(marker)])),
    "builtins.eval": lambda marker: _dump(Call(builtins.eval, f"open({str(marker)!r}, 'w').close()")),
    "builtins.exec": lambda marker: _dump(Call(builtins.exec, f"open({str(marker)!r}, 'w').close()")),
    "builtins.open": lambda marker: _dump(Call(open, str(marker), "w")),
    "getattr of a module": lambda marker: _dump(
        Call(Call(getattr, Call(__import__, "os"), "system"), f"touch '{marker}'")
    ),
    "partial": lambda marker: _dump(Call(functools.partial(os.system, f"touch '{marker}'"))),
    "inside a weight's place": lambda marker: _dump(
        {"model": collections.OrderedDict([("conv1.weight", torch.zeros(1).numpy()), ("bias", system(marker))])}
    ),
    "as a key": lambda marker: _dump({"state_dict": [(1, {"inner": (system(marker),)})]}),
    "torch.storage._load_from_bytes": lambda marker: _dump(Call(torch.storage._load_from_bytes, _inner_torch(marker))),
    "a pickle in a pickle": lambda marker: _dump(Call(pickle.loads, _dump(system(marker)))),
    "numpy.load": lambda marker: _dump(Call(np.load, Call(io.BytesIO, _numpy_file(marker)), None, True)),
    "an array of objects": lambda marker: _dump(np.array([system(marker)], dtype=object)),
    "an array of another type": lambda marker: _dump(_subtype_array(marker)),
    "state of a class": lambda marker: _dump(_WithState(marker)),
    "a name with dots": lambda marker: _by_name("numpy", "lib._npyio_impl.os.system", f"touch '{marker}'"),
}


class _SubtypeArray:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return multiarray._reconstruct, (_Subtype, (0,), b"b"), str(self.marker)


def _subtype_array(marker: Path) -> _SubtypeArray:
    return _SubtypeArray(marker)
