"""Reading ``.npy`` and ``.npz`` files that may be damaged, without executing anything in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np


class ArrayFileError(ValueError):
    """Why a file of arrays cannot be read; the caller adds which file, what it should be and the remedy."""


def read_array(path: Path) -> np.ndarray:
    """The array of an ``.npy`` file; arrays of Python objects are refused.

    Raises:
        FileNotFoundError: if there is no such file.
        ArrayFileError: if it is damaged, or holds more than numbers and text.
    """
    with _told():
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return content
        content.close()
        raise ArrayFileError("it holds several arrays, expected one")


def read_arrays(path: Path, needed: Iterable[str] = ()) -> dict[str, np.ndarray]:
    """Every array of an ``.npz`` file by name. Arrays of Python objects are refused; the archive's checksums are verified.

    Args:
        path: written by numpy.
        needed: names that have to be in it.

    Raises:
        FileNotFoundError: if there is no such file.
        ArrayFileError: if it is damaged, holds more than numbers and text, or lacks an array.
    """
    with _told(), np.load(path, allow_pickle=False) as content:
        arrays = {name: content[name] for name in content.files}
    if absent := [name for name in needed if name not in arrays]:
        raise ArrayFileError(f"it has no entry '{absent[0]}'")
    return arrays


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, ArrayFileError):
        raise
    except Exception as error:  # a damaged file raises anything: of zipfile, zlib, numpy's header parser
        raise ArrayFileError(" ".join(str(error).split()) or type(error).__name__) from error
