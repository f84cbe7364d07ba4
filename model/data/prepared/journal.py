"""What preparation has done so far, one line per image, on disk: a later run resumes there, and memory stays constant.

A line holds the state and the content's hash of an image's raw files, the hashes of what was written, and its annotations, behind
a checksum of its own. It is kept as long as the raw files have that content and the written ones have their hashes.

Names of files whose lines are dropped are kept beside the journal until preparing has ended well: what is not written again by
then is removed.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, overload

from model.common.files import atomic_file

Line = dict[str, Any]
_SUM = 16
"""Hexadecimal digits in front of each line."""


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
                yield _written(stream.readline())

    @overload
    def __getitem__(self, index: int) -> Line: ...

    @overload
    def __getitem__(self, index: slice) -> JournalLines: ...

    def __getitem__(self, index: int | slice) -> Line | JournalLines:
        if isinstance(index, slice):
            return JournalLines(self.file, self._places[index])
        with self.file.open("rb") as stream:
            stream.seek(self._places[index])
            return _written(stream.readline())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(a == b for a, b in zip(self, other))  # noqa: B905

    __hash__ = None  # type: ignore[assignment]


class Journal:
    """The journal of one split, open for writing.

    Args:
        file: where it lies; made if needed.
        header: whatever all lines depend on besides their raw files; lines under another header are dropped.
        confirm: the line of an earlier run, brought up to date; None if it is not right any more.
    """

    def __init__(self, file: Path, header: Mapping[str, Any], confirm: Callable[[Line], Line | None]) -> None:
        self.file = file
        self._places: dict[str, int] = {}
        first = _text({"settings": header})
        with ExitStack() as open_files:
            # The names are on disk before the lines are gone.
            stream = open_files.enter_context(atomic_file(file))
            dropped = open_files.enter_context(atomic_file(_dropped_file(file)))
            dropped.writelines(name.encode() + b"\n" for name in dropped_files(file))
            stream.write(first)
            for same_header, line in _lines_of(file, first):
                current = confirm(line) if same_header and line["id"] not in self._places else None
                if current is not None:
                    self._places[line["id"]] = stream.tell()
                    stream.write(_text(current))
                elif line["id"] not in self._places:
                    dropped.writelines(name.encode() + b"\n" for name in line["files"])
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
        self._stream.write(_text(line))
        self._stream.flush()
        self._places[line["id"]] = place

    def lines(self, names: Sequence[str]) -> JournalLines:
        """The lines of some images."""
        return JournalLines(self.file, [self._places[name] for name in names])


def listed_files(journal: Path) -> Iterator[str]:
    """Every file that a journal that nobody writes to says was written for it, relative to the prepared folder."""
    for _, line in _lines_of(journal, b""):
        yield from line["files"]
    yield from dropped_files(journal)


def dropped_files(journal: Path) -> list[str]:
    """Files whose lines were dropped since preparing last ended well."""
    file = _dropped_file(journal)
    return file.read_text(encoding="utf-8").splitlines() if file.exists() else []


def forget_dropped(journal: Path) -> None:
    """Everything that was dropped has been written again, or removed."""
    _dropped_file(journal).unlink(missing_ok=True)


def _dropped_file(journal: Path) -> Path:
    return journal.with_suffix(".dropped")


def _lines_of(file: Path, first: bytes) -> Iterator[tuple[bool, Line]]:
    """Whether the header is the given one, and the lines of an earlier run that are whole."""
    if not file.exists():
        return
    with file.open("rb") as stream:
        same_header = stream.readline() == first
        for text in stream:
            if (line := _whole(text)) is not None:
                yield same_header, line


def _text(line: Mapping[str, Any]) -> bytes:
    content = json.dumps(line, sort_keys=True).encode()
    return _checksum(content) + b" " + content + b"\n"


def _whole(text: bytes) -> Line | None:
    """A line, unless it was cut off or damaged."""
    found, content = text[:_SUM], text[_SUM + 1 : -1]
    if not text.endswith(b"\n") or found != _checksum(content):
        return None
    line: Line = json.loads(content)
    return line


def _written(text: bytes) -> Line:
    """A line of this run."""
    line: Line = json.loads(text[_SUM + 1 :])
    return line


def _checksum(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest()[:_SUM].encode()


def not_written_again(journal: Path, written: Iterable[str]) -> list[str]:
    """Dropped files that are not among those that were written since."""
    kept = set(written)
    return [name for name in dropped_files(journal) if name not in kept]
