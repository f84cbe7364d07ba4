"""The official archives of the datasets: where they are, how they are checked, and where their contents belong.

The table is next to this file; ``$SEGUE_ARCHIVES`` names another one with the same columns, for repacked archives.
An archive is kept in ``<root>/archives``; a marker of the same name next to it says that its contents are complete in ``root``.
Without the marker, data that the user has put there count as complete as well, unless Segue's own unpacking was interrupted.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from model.common.files import read_json, write_json
from model.data.download.fetching import Checksum, DownloadError, fetch
from model.data.download.unpacking import unpack

FOLDER = "archives"
_TABLE = Path(__file__).parent / "archives_official.csv"


@dataclass(frozen=True)
class Archive:
    """One official archive.

    Attributes:
        name: how Segue calls it.
        kind: of dataset that it belongs to.
        file: its name on disk and on mirrors.
        url: where its authors offer it.
        size: in bytes; None if unknown.
        checksum: None if none has been published; then that of the first download is kept and compared.
        part: folder inside the archive whose contents are needed.
        into: folder in the dataset's root that they go to.
        nested: archives inside it, as paths in the root, that are unpacked into the root.
        gives: files and folders in the root that exist afterwards.
    """

    name: str
    kind: str
    file: str
    url: str
    size: int | None
    checksum: Checksum | None
    part: str
    into: str
    nested: tuple[str, ...]
    gives: tuple[str, ...]

    def marker(self, root: Path) -> Path:
        """The completion marker."""
        return root / FOLDER / f"{self.name}.json"

    def started(self, root: Path) -> Path:
        """The file that marks an unfinished unpacking."""
        return root / FOLDER / f"{self.name}.unfinished"

    def is_wanted(self, root: Path) -> bool:
        """Whether the contents still have to be fetched."""
        if self.marker(root).is_file():
            return False
        return self.started(root).exists() or not all((root / path).exists() for path in self.gives)


def official_archives() -> Mapping[str, Archive]:
    """All archives by name.

    Raises:
        DownloadError: if the table that ``$SEGUE_ARCHIVES`` names cannot be read.
    """
    return read_table(Path(os.environ.get("SEGUE_ARCHIVES", _TABLE)))


@cache
def read_table(file: Path) -> Mapping[str, Archive]:
    """The archives of a table by name.

    Raises:
        DownloadError: if there is no such file, a column is missing, or a checksum is malformed.
    """
    try:
        with file.open(newline="", encoding="utf-8") as stream:
            return {row["name"]: _archive(row) for row in csv.DictReader(stream)}
    except (OSError, KeyError, ValueError) as error:
        raise DownloadError(f"{file} cannot be read as a table of archives: {error!r}") from error


def _archive(row: Mapping[str, str]) -> Archive:
    return Archive(
        name=row["name"],
        kind=row["kind"],
        file=row["file"],
        url=row["url"],
        size=int(row["bytes"]) if row["bytes"] else None,
        checksum=Checksum.parse(row["checksum"]) if row["checksum"] else None,
        part=row["part"],
        into=row["into"],
        nested=tuple(row["nested"].split()),
        gives=tuple(row["gives"].split()),
    )


def markers(root: Path, names: Sequence[str]) -> list[Path]:
    """The markers that preparing has to wait for: of what was fetched, and of what still has to be."""
    chosen = [official_archives()[name] for name in names]
    return [one.marker(root) for one in chosen if one.marker(root).is_file() or one.is_wanted(root)]


def wanted(root: Path, names: Sequence[str]) -> list[Archive]:
    """The archives that still have to be fetched."""
    return [one for one in map(official_archives().__getitem__, names) if one.is_wanted(root)]


def where(*names: str) -> str:
    """Where archives are to be had and where they belong, for messages."""
    table = official_archives()
    places = [f"{table[name].url.partition('?')[0]} -> {table[name].into}" for name in names]
    return (
        f"get it with the dataset's option 'download: true', or unpack by hand: {', '.join(places)} (docs/datasets.md)"
    )


def obtain(archive: Archive, root: Path, mirror: str | None = None) -> Path:
    """Download, verify and unpack an archive; an interrupted call is resumed.

    An archive that is already in ``<root>/archives`` is verified and used without a network.

    Args:
        archive: from :func:`official_archives`.
        root: folder of the dataset.
        mirror: address of a folder that holds the archives under their names; None asks their authors.

    Returns:
        The marker, written last.

    Raises:
        DownloadError: if the archive cannot be had, or is not the published one.
        UnpackError: if it is damaged or would write outside ``root``.
    """
    file = root / FOLDER / archive.file
    url = f"{mirror.rstrip('/')}/{archive.file}" if mirror else archive.url
    digest = fetch(url, file, checksum=archive.checksum, size=archive.size)
    theirs = _there_before(archive, root)
    files = unpack(file, root / archive.into, part=archive.part)
    for inner in archive.nested:
        files += unpack(root / inner, root) - 1
        if inner not in theirs:
            (root / inner).unlink()
    absent = [path for path in archive.gives if not (root / path).exists()]
    if absent:
        raise DownloadError(
            f"{file} was unpacked, but {root / absent[0]} is not there: it is another archive than the published one; "
            "remove it and fetch again"
        )
    write_json(archive.marker(root), {"file": archive.file, "url": url, "sha256": digest, "files": files})
    archive.started(root).unlink()
    return archive.marker(root)


def _there_before(archive: Archive, root: Path) -> list[str]:
    """Archives inside the archive that were in the root before unpacking began: they are the user's, and stay."""
    started = archive.started(root)
    if not started.is_file():
        write_json(started, {"there_before": [inner for inner in archive.nested if (root / inner).exists()]})
    theirs: list[str] = read_json(started)["there_before"]
    return theirs


def describe(archive: Archive) -> str:
    """Name and size, for messages."""
    return archive.file + (f" ({archive.size / 1e9:.2f} GB)" if archive.size else "")
