"""Reading files of ``torch.save`` from any origin: nothing in them is executed, and damage is noticed."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_FOREIGN = re.compile(r"GLOBAL ([\w.]+)")
"""Where torch's message names what a file refers to."""


class TorchFileError(ValueError):
    """Why a file cannot be read; the caller adds which file, what it should be and the remedy."""


def read_torch(path: Path, *, old_format: bool = True) -> Any:
    """Tensors and plain values of a file, on the CPU.

    Args:
        path: written by ``torch.save``.
        old_format: whether to accept the format before torch 1.6, which has no checksums.

    Raises:
        FileNotFoundError: if there is no such file.
        TorchFileError: if it is damaged, refers to anything but tensors and plain containers, or holds sparse or quantised
            tensors, or tensors without content.
    """
    try:
        if zipfile.is_zipfile(path):
            _verify(path)
        elif path.exists() and not old_format:
            raise TorchFileError("it is empty, incomplete, or was not written by torch.save")
        content = torch.load(path, map_location="cpu", weights_only=True)
        _refuse_unusual(content, "")
        return content
    except (FileNotFoundError, TorchFileError):
        raise
    except Exception as error:  # a damaged or hostile file raises anything
        raise TorchFileError(_reason(error)) from error


def _verify(path: Path) -> None:
    """Compare every entry with its checksum: torch stores them, but does not verify them when reading."""
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise TorchFileError(f"its entry '{damaged}' does not match the checksum stored with it")


def _refuse_unusual(value: Any, where: str) -> None:
    """Accept dense tensors only: others pass for weights until a network is to be loaded from them."""
    if isinstance(value, Tensor):
        kind = "on no device" if value.is_meta else "quantised" if value.is_quantized else ""
        if kind or value.layout != torch.strided or value.is_nested:
            raise TorchFileError(
                f"its tensor '{where}' is {kind or 'sparse or nested'}, expected a dense tensor of numbers"
            )
    elif isinstance(value, Mapping):
        for key, item in value.items():
            _refuse_unusual(item, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _refuse_unusual(item, f"{where}[{index}]")


def _reason(error: Exception) -> str:
    text = str(error).strip()
    if foreign := _FOREIGN.search(text):
        return f"it refers to '{foreign[1]}', which is neither a tensor nor a plain value; nothing in it was executed"
    return " ".join((text.splitlines() or [type(error).__name__])[0].split())[:300] or type(error).__name__
