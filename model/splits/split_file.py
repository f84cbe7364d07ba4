"""The file that lists the images of a step: its layout, and reading it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from model.common.json_files import Layout, read_checked


class _Split(Layout):
    dataset: str
    task: str
    setting: str
    split: str
    step: Annotated[int, Field(ge=0)]
    past: list[int]
    current: Annotated[list[int], Field(min_length=1)]
    visible: list[int]
    images: Annotated[list[str], Field(min_length=1)]


def read_split(path: Path) -> dict[str, Any]:
    """Content of a split file, as :func:`model.splits.selection.make_split` makes it.

    Raises:
        FileError: naming the file, the entry that is missing or of another kind, and the remedy.
    """
    return read_checked(path, _Split)
