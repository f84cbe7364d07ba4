"""Files that are either complete or absent, and one clear line when one cannot be written or read."""

from __future__ import annotations

import errno
import io
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

_REMEDIES = {
    errno.ENOENT: "check the path, or run the workflow that makes it",
    errno.ENOSPC: "free some space; the workflow resumes where it stopped",
    errno.EDQUOT: "free some of your quota; the workflow resumes where it stopped",
    errno.EROFS: "make the folder writable, or name another one under 'results' in the configuration",
    errno.EACCES: "make the folder writable, or name another one under 'results' in the configuration",
    errno.EPERM: "make the folder writable, or name another one under 'results' in the configuration",
    errno.ENOTDIR: "there is a file where a folder is expected; move it away",
    errno.EEXIST: "there is a file where a folder is expected; move it away",
    errno.EISDIR: "there is a folder where a file is expected; move it away",
}


class FileError(ValueError):
    """A file that cannot be written, or does not hold what it should; the message names it and the remedy."""


class NotWrittenError(OSError, FileError):
    """A file that cannot be written; also an ``OSError``, for callers that can do without the file."""


def explained(error: OSError) -> str:
    """The system's message about a file, and what to do about it."""
    remedy = _REMEDIES.get(error.errno or 0, "check the path, the disk and the permissions")
    return f"{(error.strerror or str(error)).lower()}; {remedy}"


def not_written(path: Path, error: OSError) -> NotWrittenError:
    """The error to raise when writing a file failed."""
    return NotWrittenError(f"{path} cannot be written: {explained(error)}")


class _Recording(io.FileIO):
    """A raw file that remembers why writing failed: torch and numpy report only that it did."""

    problem: OSError | None = None

    def write(self, data: Any) -> int:
        with self.noted():
            return super().write(data)

    @contextmanager
    def noted(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.problem = error
            raise


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that gets its name only after everything has reached the disk.

    The folder is created if needed. If the block raises, nothing is left behind and an older file stays as it was.

    Raises:
        NotWrittenError: if the disk is full, the folder cannot be written to, or something else is in the way.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    except OSError as error:
        raise not_written(path, error) from error
    temporary = Path(name)
    raw = _Recording(descriptor, "wb")
    try:
        with io.BufferedWriter(raw) as file:
            yield file
            file.flush()
            with raw.noted():
                os.fsync(raw.fileno())
        with raw.noted():
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
        _sync_folder(path.parent)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if raw.problem is not None:
            raise not_written(path, raw.problem) from error
        raise


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with atomic_file(path) as file:
        file.write(text.encode())


def write_json(path: Path, content: Any) -> None:
    """Write readable JSON atomically; what JSON cannot express leaves no file.

    Raises:
        TypeError: for a value that JSON cannot express.
        ValueError: for NaN and infinity.
    """
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path, remedy: str = "delete it to have it made again") -> dict[str, Any]:
    """The keys and values of a JSON file.

    Raises:
        FileError: if the file is missing, is not JSON, or holds something else.
    """
    try:
        return json_content(path.read_bytes(), path, remedy)
    except FileNotFoundError:
        raise FileError(f"{path} does not exist: run the workflow, which makes it") from None
    except OSError as error:
        raise FileError(f"{path} cannot be read: {explained(error)}") from None


def json_content(text: bytes, path: Path, remedy: str = "delete it to have it made again") -> dict[str, Any]:
    """The keys and values of JSON text.

    Args:
        text: content of a file.
        path: of the file, for messages.
        remedy: what to do if it is damaged.

    Raises:
        FileError: if it is no JSON, or holds something else.
    """
    try:
        content = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise FileError(f"{path} is not valid JSON ({error}); {remedy}") from None
    if not isinstance(content, dict):
        raise FileError(f"{path}: expected keys and values, found a {type(content).__name__}; {remedy}")
    return content


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # some network file systems refuse to open folders; the rename itself is still atomic
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
