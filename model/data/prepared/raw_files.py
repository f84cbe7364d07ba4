"""The files that a dataset was prepared from: what they were then, and whether they still are.

A file counts as unchanged if path, size, times and inode are those that were noted. The time of the last change of its entry
(``ctime``) is among them: it cannot be set, so a file that was put in place of another with the old size and time is noticed.
If one of them differs, as after copying, moving or ``touch``, the content decides. Small tables are always read.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_CHUNK = 1 << 20
_TABLE = 1 << 20
"""Tables up to so many bytes are compared by content; COCO's annotations are larger."""

Row = list[Any]
"""Path, size in bytes, times of content and entry in nanoseconds, inode, SHA-256."""


@dataclass(frozen=True)
class RawInputs:
    """What raw data consist of besides the files of single images.

    Attributes:
        folders: of the user, that are read.
        tables: files that say which images and classes there are.
        listed: folders whose files are the list of images.
    """

    folders: Sequence[Path] = field(default=())
    tables: Sequence[Path] = field(default=())
    listed: Sequence[Path] = field(default=())


def content_hash(file: Path | str) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with open(file, "rb") as stream:
        while block := stream.read(_CHUNK):
            digest.update(block)
    return digest.hexdigest()


def file_state(file: Path | str) -> list[int]:
    """Size, times and inode.

    Raises:
        OSError: if there is no such file.
    """
    stat = os.stat(file)
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def observe(file: Path) -> Row:
    """A file's path, state and content.

    Raises:
        OSError: if it cannot be read.
    """
    return [str(file), *file_state(file), content_hash(file)]


def confirmed(row: Row, file: Path, verify: bool = False) -> Row | None:
    """The row of a file if its content is the one that was noted, brought up to date; otherwise None.

    Args:
        row: what was noted, perhaps of a file in another place.
        file: the present one.
        verify: whether the content is read in any case.
    """
    try:
        state = file_state(file)
        if not verify and row[0] == str(file) and row[1:5] == state:
            return row
        same = row[1] == state[0] and row[5] == content_hash(file)
    except OSError:
        return None
    return [str(file), *state, row[5]] if same else None


def listing(folder: Path) -> str:
    """Digest of the names in a folder; hidden files do not count."""
    names = sorted(name for name in os.listdir(folder) if not name.startswith(".")) if folder.is_dir() else []
    return hashlib.sha256("\n".join(names).encode("utf-8", "surrogateescape")).hexdigest()


def observe_inputs(inputs: RawInputs) -> dict[str, Any]:
    """Folders, tables and listings as they are now, as plain data.

    Raises:
        OSError: if a table cannot be read.
    """
    return {
        "folders": [str(folder.resolve()) for folder in inputs.folders],
        "tables": [observe(file.resolve()) for file in inputs.tables],
        "listed": {str(folder.resolve()): listing(folder) for folder in inputs.listed},
    }


def table_of(rows: Iterable[Row], home: Path) -> str:
    """Rows as CSV; paths inside ``home`` are relative to it, so that it can be moved."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    inside = f"{home.resolve()}{os.sep}"
    writer.writerows([row[0].removeprefix(inside), *row[1:]] for row in rows)
    return text.getvalue()


def read_table(text: str, home: Path) -> Iterator[Row]:
    """The rows of :func:`table_of`.

    Raises:
        ValueError: for text that is none.
    """
    inside = str(home.resolve())
    for path, size, modified, changed, inode, digest in csv.reader(io.StringIO(text, newline="")):
        yield [os.path.join(inside, path), int(size), int(modified), int(changed), int(inode), digest]


def changed_inputs(before: Mapping[str, Any], inputs: RawInputs, verify: bool = False) -> Iterator[str]:
    """What has changed among folders, tables and listings since :func:`observe_inputs`, a phrase each."""
    folders = [str(folder.resolve()) for folder in inputs.folders]
    if folders != before["folders"]:
        yield f"{', '.join(folders)} is read instead of {', '.join(before['folders'])}"
        return
    noted, present = {row[0]: row for row in before["tables"]}, [file.resolve() for file in inputs.tables]
    for file in present:
        if str(file) not in noted:
            yield f"{file} is new"
        elif not file.exists():
            yield f"{file} is gone"
        elif confirmed(noted[str(file)], file, verify or file.stat().st_size <= _TABLE) is None:
            yield f"{file} was edited"
    yield from (f"{path} is gone" for path in noted if path not in map(str, present))
    for folder in inputs.listed:
        if before["listed"].get(str(folder.resolve())) != listing(folder):
            yield f"{folder} has other files"


def changed_files(rows: Iterable[Row], verify: bool = False) -> Iterator[str]:
    """What has changed among the files of images, a phrase each."""
    for row in rows:
        if confirmed(row, file := Path(row[0]), verify) is None:
            yield f"{file} {'was replaced' if file.exists() else 'is gone'}"
