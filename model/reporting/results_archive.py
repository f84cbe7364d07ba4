"""Results in one file to send: tables, records and where each number comes from, as CSV and JSON in a zip archive.

``manifest.json`` lists every other member with its size and SHA-256. There are neither checkpoints nor pictures in an archive:
a dataset's images must not be passed on. An archive may come from anybody, so nothing of it is written to the disk: its members
are read into memory, after their names, number and sizes were checked, and compared with the manifest.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import Field

from model.common.files import FileError, atomic_file, json_content
from model.common.json_files import CHECKSUM, Layout, check_layout, checksum_of, without_checksum

FORMAT = 1
MANIFEST = "manifest.json"
ORIGINS = "origins.json"
"""Member with the origin of every number."""
SUFFIXES = (".csv", ".json")
MOST_MEMBERS = 50_000
MOST_BYTES = 512 << 20
"""Of all members together, unpacked."""
_ASK = "ask for it again"
_DATE = (1980, 1, 1, 0, 0, 0)
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, OSError)


class ArchiveError(ValueError):
    """An archive of results that cannot be read or written; the message names it and the remedy."""


class MemberRow(Layout):
    """One member of an archive."""

    bytes: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class ManifestFile(Layout):
    """``manifest.json``."""

    made_by: Annotated[str, Field(pattern="^segue$")]
    version: str
    files: dict[str, MemberRow]


@dataclass(frozen=True)
class ResultsArchive:
    """An archive whose content agrees with its manifest.

    Attributes:
        path: where it lies, for messages.
        version: of Segue that wrote it.
        files: name → content.
    """

    path: Path
    version: str
    files: Mapping[str, bytes]

    def json(self, name: str) -> dict[str, Any]:
        """The content of a JSON member.

        Raises:
            ArchiveError: if there is no such member, or it is no JSON object.
        """
        if name not in self.files:
            raise ArchiveError(f"{self.path} has no '{name}': it is not complete; {_ASK}")
        try:
            return json_content(self.files[name], self.path / name, _ASK)
        except FileError as error:
            raise ArchiveError(str(error)) from error


def write_archive(path: Path, version: str, files: Mapping[str, bytes]) -> None:
    """Write an archive; equal content gives equal bytes, and the file appears only when complete.

    Args:
        path: to write; an archive of results that is there is replaced.
        version: of Segue.
        files: name → content.

    Raises:
        ArchiveError: if another file has this name, or for content that :func:`read_archive` would refuse.
        NotWrittenError: if the file cannot be written.
    """
    if path.exists():
        try:
            read_archive(path)
        except ArchiveError as error:
            raise ArchiveError(f"{path} exists and is no archive of results: name another file with OUT=") from error
    for name in files:
        _check_name(path, name)
    if sum(map(len, files.values())) > MOST_BYTES or len(files) > MOST_MEMBERS:
        raise ArchiveError(f"{path}: more than {MOST_BYTES >> 20} MiB or {MOST_MEMBERS:,} files of tables and records")
    rows = {name: {"bytes": len(text), "sha256": _digest(text)} for name, text in sorted(files.items())}
    manifest: dict[str, Any] = {"format": FORMAT, "made_by": "segue", "version": version, "files": rows}
    first = json.dumps({**manifest, CHECKSUM: checksum_of(manifest)}, indent=1, ensure_ascii=False).encode()
    with atomic_file(path) as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, text in ((MANIFEST, first), *sorted(files.items())):
            member = zipfile.ZipInfo(name, _DATE)
            member.compress_type, member.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(member, text)


def read_archive(path: Path) -> ResultsArchive:
    """Read an archive into memory.

    Raises:
        ArchiveError: if it is no zip file or damaged, holds anything but CSV and JSON files below itself, is implausibly large,
            differs from its manifest, or was written by a newer version.
    """
    try:
        with path.open("rb") as stream:
            is_zip = stream.read(4) == b"PK\x03\x04"
    except OSError as error:
        raise ArchiveError(f"{path} cannot be read ({error.strerror}): name a file of `make export-results`") from error
    if not is_zip:
        raise ArchiveError(f"{path} is not an archive of results: `make export-results` writes one")
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check_members(path, members)
            contents = {member.filename: _content(archive, member) for member in members}
    except _DAMAGE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ArchiveError(f"{path} is cut short or damaged ({reason}): {_ASK}") from error
    manifest = _manifest(path, contents.pop(MANIFEST))
    rows: dict[str, dict[str, Any]] = manifest["files"]
    if strangers := sorted(contents.keys() ^ rows.keys()):
        where = "not in its manifest" if strangers[0] in contents else "missing, though its manifest lists it"
        raise ArchiveError(f"{path}: '{strangers[0]}' is {where}: the archive was changed; {_ASK}")
    for name, text in contents.items():
        if (len(text), _digest(text)) != (rows[name]["bytes"], rows[name]["sha256"]):
            raise ArchiveError(
                f"{path}: '{name}' differs from its checksum in the manifest: it was changed or damaged; {_ASK}"
            )
    return ResultsArchive(path, manifest["version"], contents)


def _manifest(path: Path, text: bytes) -> dict[str, Any]:
    file = path / MANIFEST
    try:
        content = json_content(text, file, _ASK)
        number = content.get("format")
        if isinstance(number, int) and number > FORMAT:
            raise ArchiveError(
                f"{path} was written by a newer version of Segue (format {number}, this version reads {FORMAT}): update Segue"
            )
        if number != FORMAT:
            raise ArchiveError(f"{file} has format {number}, expected {FORMAT}; {_ASK}")
        check_layout(content, file, ManifestFile, _ASK)
        return without_checksum(content, file, _ASK)
    except FileError as error:
        raise ArchiveError(str(error)) from error


def _check_members(path: Path, members: list[zipfile.ZipInfo]) -> None:
    """Names, kinds and announced sizes, before anything is unpacked."""
    names = [member.filename for member in members]
    if MANIFEST not in names:
        raise ArchiveError(
            f"{path} has no {MANIFEST}: it is not an archive of results, which `make export-results` writes"
        )
    if len(names) > MOST_MEMBERS or sum(member.file_size for member in members) > MOST_BYTES:
        raise ArchiveError(
            f"{path} claims to hold more than {MOST_BYTES >> 20} MiB or {MOST_MEMBERS:,} files, which tables and records never "
            "are; it was not read"
        )
    for member in members:
        _check_name(path, member.filename)
        if (member.external_attr >> 28) not in (0, 8):  # of the Unix mode: unknown, or a regular file
            raise ArchiveError(f"{path}: '{member.filename}' is a link or a device; it was not read")
    if again := [name for name, count in Counter(names).items() if count > 1]:
        raise ArchiveError(f"{path} holds '{again[0]}' twice: the archive was changed; {_ASK}")


def _check_name(path: Path, name: str) -> None:
    place = PurePosixPath(name)
    odd = "\\" in name or "\0" in name or place.as_posix() != name or (place.parts and place.parts[0].endswith(":"))
    if odd or place.is_absolute() or ".." in place.parts:
        raise ArchiveError(f"{path}: '{name}' is no path inside an archive; it was not read")
    if place.suffix not in SUFFIXES:
        raise ArchiveError(f"{path}: '{name}' is neither CSV nor JSON, and archives of results hold nothing else")


def _content(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """What a member holds; it may not be longer than it claims."""
    with archive.open(member) as stream:
        content = stream.read(member.file_size + 1)
    if len(content) != member.file_size:
        raise EOFError(f"'{member.filename}' has another length than announced")
    return content


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
