"""Reading ``.npz`` files that may be damaged, without running anything they contain."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np


class ArrayFileError(ValueError):
    """Why a file of arrays cannot be read; whoever reads it says which file, what it should be and the remedy."""


def read_arrays(path: Path, needed: Iterable[str] = ()) -> dict[str, np.ndarray]:
    """Every array of an ``.npz`` file by name. Arrays of Python objects are refused; the archive's checksums are verified.

    Args:
        path: written by numpy.
        needed: names that have to be there.

    Raises:
        FileNotFoundError: if there is no such file.
        ArrayFileError: if it is damaged, holds other than numbers and text, or lacks an array.
    """
    try:
        with np.load(path, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged archive raises anything: of zipfile, zlib, numpy's header parser
        raise ArrayFileError(" ".join(str(error).split()) or type(error).__name__) from error
    if absent := [name for name in needed if name not in arrays]:
        raise ArrayFileError(f"it has no entry '{absent[0]}'")
    return arrays
