"""What preparation has done so far, one line per image, on disk: a later run resumes there, and memory stays constant.

A line holds the sizes and times of an image's raw files, the hashes of what was written, and its annotations. It is kept
as long as the raw files are unchanged and the written ones have their hashes.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

from model.common.files import atomic_file

Line = dict[str, Any]


class JournalLines(Sequence[Line]):
    """Lines of a journal in a given order, read on demand."""

    def __init__(self, file: Path, places: Sequence[int]) -> None:
        self.file = file
        self._places = array("q", places)

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Line]:
        with self.file.open("rb") as stream:
            for place in self._places:
                stream.seek(place)
                yield json.loads(stream.readline())

    @overload
    def __getitem__(self, index: int) -> Line: ...

    @overload
    def __getitem__(self, index: slice) -> JournalLines: ...

    def __getitem__(self, index: int | slice) -> Line | JournalLines:
        if isinstance(index, slice):
            return JournalLines(self.file, self._places[index])
        with self.file.open("rb") as stream:
            stream.seek(self._places[index])
            line: Line = json.loads(stream.readline())
            return line

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(a == b for a, b in zip(self, other))  # noqa: B905

    __hash__ = None  # type: ignore[assignment]


class Journal:
    """The journal of one split, open for writing.

    Args:
        file: where it is; created if needed.
        header: everything that all lines depend on besides their raw files; lines under another header are dropped.
        holds: whether a line of an earlier run is still right.
        discard: removes what a line lists that is dropped; called before the line is forgotten.
    """

    def __init__(
        self, file: Path, header: Mapping[str, Any], holds: Callable[[Line], bool], discard: Callable[[Line], None]
    ) -> None:
        self.file = file
        self._places: dict[str, int] = {}
        first = json.dumps({"settings": header}, sort_keys=True).encode() + b"\n"
        with atomic_file(file) as stream:
            stream.write(first)
            for same_header, text, line in _earlier_lines(file, first):
                if same_header and line["id"] not in self._places and holds(line):
                    self._places[line["id"]] = stream.tell()
                    stream.write(text)
                elif line["id"] not in self._places:
                    discard(line)
        self._stream = file.open("ab")

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def __len__(self) -> int:
        return len(self._places)

    def add(self, line: Line) -> None:
        """Write a line; it is in the file when this returns."""
        place = self._stream.tell()
        self._stream.write(json.dumps(line).encode() + b"\n")
        self._stream.flush()
        self._places[line["id"]] = place

    def lines(self, names: Sequence[str]) -> JournalLines:
        """The lines of some images."""
        return JournalLines(self.file, [self._places[name] for name in names])


def earlier_lines(file: Path) -> Iterator[Line]:
    """Lines of a journal opened for reading."""
    return (line for _, _, line in _earlier_lines(file, b""))


def _earlier_lines(file: Path, first: bytes) -> Iterator[tuple[bool, bytes, Line]]:
    """Whether the header is the given one, and the lines of an earlier run up to one that it did not finish."""
    if not file.exists():
        return
    with file.open("rb") as stream:
        same_header = stream.readline() == first
        for text in stream:
            try:
                line = json.loads(text)
            except json.JSONDecodeError:
                return
            if text.endswith(b"\n"):
                yield same_header, text, line


def digest(file: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()
