"""Reading published weight files without executing anything in them.

Public checkpoints are torch archives (``.pth``), safetensors files, or pickled dictionaries of numpy arrays (``.pkl``,
detectron2's model zoo). Safetensors files hold tensors alone, torch archives tensors and plain values; pickles are read by an
unpickler that admits numpy arrays and plain containers only, and substitutes functions of its own for those that a pickle
refers to.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core import multiarray, numeric
from safetensors.torch import load_file
from torch import Tensor

from model.common.torch_files import read_torch


def _latin1(text: str, encoding: str = "latin1") -> bytes:
    """How protocol 2 writes bytes; other codecs have no place in a file of arrays."""
    if encoding.lower() not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"it encodes text as '{encoding}'")
    return text.encode("latin1")


def _admitted(module: str, name: str) -> Any:
    """What a pickled dictionary of arrays may refer to, None for anything else; numpy 1 and 2 differ in the module."""
    if (module, name) == ("_codecs", "encode"):
        return lambda *arguments: _latin1(*arguments)
    if (module, name) == ("collections", "OrderedDict"):
        return OrderedDict
    if module == "numpy" and name in ("ndarray", "dtype"):
        return getattr(np, name)
    if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name in ("_reconstruct", "scalar"):
        return getattr(multiarray, name)
    if module in ("numpy.core.numeric", "numpy._core.numeric") and name == "_frombuffer":
        frombuffer = getattr(numeric, name)
        return lambda *arguments: frombuffer(*arguments)  # not the function itself, which a pickle could change
    return None


SAFETENSORS = ".safetensors"
_REMEDY = "download it again, or use another file of published weights"


CONTAINERS = ("model", "state_dict", "model_state", "blobs")
"""Entries of a file under which released codes keep their weights."""


class WeightFileError(ValueError):
    """A weight file that cannot be read or holds something other than weights; the message names the file."""


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        found = _admitted(module, name)
        if found is None:
            raise pickle.UnpicklingError(
                f"it refers to '{module}.{name}', which is neither an array nor a container; nothing in it was executed"
            )
        return found


def read_weights(path: Path) -> dict[str, Tensor]:
    """The named tensors of a weight file, on the CPU.

    The weights may be the content itself, or one of its entries :data:`CONTAINERS`. Entries that are not numeric arrays are
    skipped.

    Raises:
        WeightFileError: if the file is missing, damaged, or refers to anything but arrays and plain containers.
    """
    try:
        content = _read(path)
    except FileNotFoundError:
        raise WeightFileError(f"{path}: there is no such file; {_REMEDY}") from None
    except Exception as error:  # a damaged or hostile pickle raises anything
        reason = " ".join(str(error).split())[:300]
        raise WeightFileError(f"{path}: cannot be read as weights ({reason}); {_REMEDY}") from None
    if isinstance(content, Mapping):
        for key in CONTAINERS:
            if isinstance(content.get(key), Mapping):
                content = content[key]
                break
    weights = {}
    if isinstance(content, Mapping):
        for name, value in content.items():
            tensor = _tensor(value)
            if isinstance(name, str) and tensor is not None:
                weights[name] = tensor
    if not weights:
        raise WeightFileError(f"{path}: it holds no named arrays; {_REMEDY}")
    return weights


def _read(path: Path) -> Any:
    if path.suffix == SAFETENSORS:
        return load_file(path)
    if zipfile.is_zipfile(path) or path.suffix in (".pth", ".pt", ".tar"):
        return read_torch(path)
    # caffe2-era files were pickled by Python 2: their text is in Latin-1
    return _ArrayUnpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load()


def _tensor(value: Any) -> Tensor | None:
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        return torch.from_numpy(np.array(value))  # a copy, in case the array lies in a read-only buffer
    return None
