"""Image lists by step: read, checked, and identified by their content.

Some image sets follow no rule and have to be read. MiB, SDR and, for semantic segmentation, CoMFormer and ECLIPSE train on a
fixed partition of ADE20K that came from an unseeded draw. The lists stay where they were published; here are only
their sizes and hashes (``image_lists_<kind>.csv``). A list is

    .npy    integers, one per image (MiB, PLOP, SDR), or a matrix images × steps of 0 and 1 (CoMFormer, ECLIPSE)
    .txt    one entry per line

An entry is the position of an image, counted from 0, among the training images sorted by name, or the name itself.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from model.common.array_files import ArrayFileError, read_array
from model.common.text_files import TextFileError, read_lines

Entries = Literal["positions", "names"]
PUBLISHED_AT = "https://raw.githubusercontent.com/fcdl94/MiB/3da2fe3f9b35e5c96997ad24d2aa912f19318074/data/ade"
"""Folder of the published lists in the repository of MiB, at a fixed commit; SDR and PLOP carry the same ones."""


class ImageListError(ValueError):
    """A list that is not there, cannot be read or is not what it should be; the message names the file and the remedy."""


@dataclass(frozen=True)
class ImageList:
    """One step's list.

    Attributes:
        file: path in the folder of lists.
        entries: what an entry is.
        column: of a matrix; None for a file of one step.
        sha256: of :func:`content_hash` if the list is a published one, else empty: then the file is what counts.
        images: number of entries of a published list.
        total: number of images from which a published list was drawn.
    """

    file: str
    entries: Entries = "positions"
    column: int | None = None
    sha256: str = ""
    images: int | None = None
    total: int | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """What the images depend on, as plain data: for a published list its content, wherever the file is."""
        if self.sha256:
            return {"sha256": self.sha256, "images": self.images, "total": self.total, "entries": self.entries}
        return {"file": self.file, "entries": self.entries, "column": self.column}

    @property
    def title(self) -> str:
        """Short and unique, for records."""
        if self.sha256:
            return f"list {self.sha256[:16]}"
        return f"list {self.file}" + ("" if self.column is None else f", column {self.column}")


@dataclass(frozen=True)
class PublishedLists:
    """The lists of one scenario of semantic segmentation."""

    scenario: str
    steps: tuple[ImageList, ...]


def content_hash(positions: Sequence[int] | np.ndarray) -> str:
    """SHA-256 of the sorted positions, one per line: equal for equal sets of images, whatever the file."""
    return hashlib.sha256("".join(f"{position}\n" for position in sorted(map(int, positions))).encode()).hexdigest()


@cache
def published_lists(kind: str) -> tuple[PublishedLists, ...]:
    """Every partition known for a kind of raw data; none for most."""
    file = Path(__file__).parent / f"image_lists_{kind}.csv"
    if not file.is_file():
        return ()
    scenarios: dict[str, list[ImageList]] = {}
    with file.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            steps = scenarios.setdefault(row["scenario"], [])
            if int(row["step"]) != len(steps):
                raise ImageListError(f"{file}: scenario {row['scenario']} has step {row['step']} out of order")
            images, total = int(row["images"]), int(row["total"])
            steps.append(ImageList(row["file"], sha256=row["sha256"], images=images, total=total))
    return tuple(PublishedLists(name, tuple(steps)) for name, steps in scenarios.items())


def configured_lists(files: str | Sequence[str], entries: Entries, steps: int, scenario: str) -> tuple[ImageList, ...]:
    """The user's own lists: one file per step, or one matrix for all.

    Raises:
        ImageListError: if their number is not that of the steps.
    """
    if isinstance(files, str):
        return tuple(ImageList(files, entries, column) for column in range(steps))
    if len(files) != steps:
        raise ImageListError(
            f"scenario '{scenario}' has {steps} steps, but {len(files)} lists are given; name one per step"
        )
    return tuple(ImageList(file, entries) for file in files)


def find_list(folder: Path, wanted: ImageList) -> Path:
    """The file of a list; a published one may also be there as text.

    Raises:
        ImageListError: if it is in the folder under neither name.
    """
    file = folder / wanted.file
    found = [candidate for candidate in (file, file.with_suffix(".txt")) if candidate.is_file()]
    if not found:
        raise ImageListError(
            f"{file} does not exist: put the lists there ({PUBLISHED_AT}), or set 'download: true' instead of 'folder'"
        )
    return found[0]


def parse_identity(identity: Mapping[str, Any]) -> ImageList:
    """The list of an :attr:`ImageList.identity`; a published one without the name of its file."""
    return ImageList(**{"file": "", **identity})


def read_image_list(file: Path, wanted: ImageList) -> tuple[int, ...] | tuple[str, ...]:
    """Entries of a list, sorted.

    Args:
        file: the file to read.
        wanted: what it should be; size and hash are compared for published lists.

    Raises:
        ImageListError: if the file is missing or unreadable, an entry comes twice, or the list is not the published one.
    """
    if not file.is_file():
        raise ImageListError(f"{file} does not exist: put the published lists there (docs/protocols.md)")
    entries = _read_array(file, wanted) if file.suffix == ".npy" else _read_text(file, wanted)
    if len(set(entries)) != len(entries):
        raise ImageListError(f"{file} names an image twice")
    if wanted.sha256 and (len(entries) != wanted.images or content_hash(entries) != wanted.sha256):  # type: ignore[arg-type]
        raise ImageListError(
            f"{file} holds {len(entries)} images and is not the published list of {wanted.images} images: "
            "fetch it again, or name lists of your own under 'lists.files' of the dataset"
        )
    return tuple(sorted(entries))  # type: ignore[return-value]


def _read_array(file: Path, wanted: ImageList) -> list[int]:
    try:
        content = read_array(file)
    except (FileNotFoundError, ArrayFileError) as error:
        raise ImageListError(f"{file} is not a NumPy file of numbers ({error}): fetch it again") from None
    if wanted.entries != "positions":
        raise ImageListError(f"{file} holds numbers, not names; set 'entries: positions'")
    if wanted.column is None:
        if content.ndim != 1 or content.dtype.kind not in "iu":
            raise ImageListError(f"{file} holds {content.dtype} of shape {content.shape}, expected a row of integers")
        return [int(position) for position in content]
    if content.ndim != 2 or content.shape[1] <= wanted.column or not np.isin(content, (0, 1)).all():
        raise ImageListError(
            f"{file} has shape {content.shape}, expected a matrix of 0 and 1 with a column for step {wanted.column}"
        )
    return [int(position) for position in np.flatnonzero(content[:, wanted.column])]


def _read_text(file: Path, wanted: ImageList) -> list[int] | list[str]:
    if wanted.column is not None:
        raise ImageListError(f"{file} is text, which holds one step; a file for all steps is a matrix (.npy)")
    try:
        lines = read_lines(file)
    except TextFileError as error:
        raise ImageListError(f"{error}; lists are .npy files, or text with one entry per line") from None
    if wanted.entries == "names":
        return lines
    if strange := [line for line in lines if not line.isdecimal()]:
        raise ImageListError(f"{file} has the line '{strange[0]}', expected a position; names need 'entries: names'")
    return [int(line) for line in lines]
