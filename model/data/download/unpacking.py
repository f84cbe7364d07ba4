"""Unpacking an untrusted archive: nothing is written outside the target folder, as a link, or implausibly large.

All names are checked before the first file is written. Files get their names when they are complete, so an interrupted
unpacking resumes where it stopped.
"""

from __future__ import annotations

import gzip
import lzma
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from model.common.progress_bar import progress_bar

_EXPANSION = 50
"""How many times an archive's size its contents may have; photographs have once, JSON ten times."""
_ALLOWANCE = 64 << 20
_SPARE = 64 << 20
_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError)
_CRUMBS = ("__MACOSX", ".DS_Store")


class UnpackError(ValueError):
    """An archive that is damaged or not to be trusted; the message names it and the member."""


@dataclass(frozen=True)
class _Member:
    """One file of an archive: cleaned path, size, CRC-32 where the archive has one, and the library's own record."""

    path: PurePosixPath
    size: int
    crc: int | None
    record: zipfile.ZipInfo | tarfile.TarInfo


def unpack(archive: Path, target: Path, part: str = ".") -> int:
    """Write the files of a zip or tar archive.

    Args:
        archive: to read.
        target: folder to write into; made if needed.
        part: folder inside the archive whose contents are needed; everything else is left out.

    Returns:
        How many files belong to it, those included that were there already.

    Raises:
        UnpackError: if the archive is damaged, names a path outside itself, holds links or devices, is implausibly large,
            has nothing below ``part``, does not fit on the disk, or holds another version of a file that is there already.
    """
    try:
        with _opened(archive) as opened:
            wanted = [(member, member.path.relative_to(part)) for member in _members(archive, opened, part)]
            if not wanted:
                raise UnpackError(f"{archive} has no file in '{part}': it is not the expected archive")
            _check_room(archive, target, wanted)
            with progress_bar(len(wanted), f"unpacking {archive.name}", "file") as progress:
                for member, path in wanted:
                    _write(archive, opened, member, target / path)
                    progress.update()
    except _DAMAGE as error:
        raise _damaged(archive, error) from error
    except OSError as error:
        if error.errno is not None:  # otherwise it is about the content, as with bz2
            raise
        raise _damaged(archive, error) from error
    return len(wanted)


def _damaged(archive: Path, error: Exception) -> UnpackError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return UnpackError(f"{archive} cannot be unpacked ({reason}): remove it and fetch it again")


@contextmanager
def _opened(archive: Path) -> Iterator[zipfile.ZipFile | tarfile.TarFile]:
    with archive.open("rb") as stream:
        is_zip = stream.read(2) == b"PK"  # even if its end, where the table is, is missing
    if is_zip:
        with zipfile.ZipFile(archive) as zipped:
            yield zipped
    else:
        with tarfile.open(archive) as tar:
            yield tar


def _members(archive: Path, opened: zipfile.ZipFile | tarfile.TarFile, part: str) -> list[_Member]:
    """Files in ``part``; the paths of all members are checked."""
    found = []
    records = opened.infolist() if isinstance(opened, zipfile.ZipFile) else opened
    for record in records:
        if isinstance(record, zipfile.ZipInfo):
            name, is_folder, size, crc = record.filename, record.is_dir(), record.file_size, record.CRC
            plain = (record.external_attr >> 28) in (0, 8)  # of the Unix mode: unknown, or a regular file
        else:
            name, is_folder, size, crc = record.name, record.isdir(), record.size, None
            plain = record.isreg()
        path = _inside(archive, name)
        if is_folder or not _below(path, part) or any(p in _CRUMBS or p.startswith("._") for p in path.parts):
            continue
        if path in (PurePosixPath("."), PurePosixPath(part)):
            raise UnpackError(f"{archive}: '{name}' is the name of a folder, but not the kind; nothing was unpacked")
        if not plain:
            raise UnpackError(f"{archive}: '{name}' is a link or a device, which no dataset has; nothing was unpacked")
        found.append(_Member(path, size, crc, record))
    return found


def _inside(archive: Path, name: str) -> PurePosixPath:
    """The path of a member, if it stays inside the archive."""
    path = PurePosixPath(name)
    suspicious = "\\" in name or "\0" in name or (path.parts and path.parts[0].endswith(":"))
    if path.is_absolute() or ".." in path.parts or suspicious:
        raise UnpackError(f"{archive}: '{name}' would be written outside the folder; nothing was unpacked")
    return path


def _below(path: PurePosixPath, part: str) -> bool:
    return part == "." or path.is_relative_to(part)


def _check_room(archive: Path, target: Path, wanted: list[tuple[_Member, PurePosixPath]]) -> None:
    total, packed = sum(member.size for member, _ in wanted), archive.stat().st_size
    if total > _EXPANSION * packed + _ALLOWANCE:
        raise UnpackError(f"{archive} has {packed:,} bytes and claims to hold {total:,}; nothing was unpacked")
    target.mkdir(parents=True, exist_ok=True)
    present = sum(file.stat().st_size for _, path in wanted if (file := target / path).is_file())
    free = shutil.disk_usage(target).free
    if total - present + _SPARE > free:
        raise UnpackError(f"{archive} holds {total:,} bytes, but {target} has only {free:,} free: free some space")


def _write(archive: Path, opened: zipfile.ZipFile | tarfile.TarFile, member: _Member, file: Path) -> None:
    """Write one file, unless it exists already.

    A file of ours is complete or not there, so one that differs is the user's.
    """
    if file.is_file():
        if file.stat().st_size == member.size and _same_content(opened, member, file):
            return
        raise UnpackError(
            f"{file} already exists and differs from the one in {archive}: move it away to have that one unpacked; it was "
            "not changed"
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.segue")
    with _reader(opened, member) as source, part.open("wb") as stream:
        shutil.copyfileobj(source, stream, 1 << 20)
    if part.stat().st_size != member.size:
        part.unlink()
        raise EOFError(f"'{member.path}' is shorter than announced")
    part.replace(file)


def _reader(opened: zipfile.ZipFile | tarfile.TarFile, member: _Member) -> IO[bytes]:
    if isinstance(opened, zipfile.ZipFile) and isinstance(member.record, zipfile.ZipInfo):
        return opened.open(member.record)
    assert isinstance(opened, tarfile.TarFile) and isinstance(member.record, tarfile.TarInfo)
    stream = opened.extractfile(member.record)
    assert stream is not None  # regular files have contents
    return stream


def _same_content(opened: zipfile.ZipFile | tarfile.TarFile, member: _Member, file: Path) -> bool:
    """By checksum where the archive has one, otherwise byte by byte."""
    if member.crc is not None:
        return member.crc == _crc(file)
    with _reader(opened, member) as theirs, file.open("rb") as ours:
        while block := theirs.read(1 << 20):
            if ours.read(len(block)) != block:
                return False
        return True


def _crc(file: Path) -> int:
    crc = 0
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            crc = zlib.crc32(block, crc)
    return crc
