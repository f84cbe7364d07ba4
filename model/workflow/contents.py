"""SHA-256 of files, cached so that files that have not changed are not read again."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from model.common.files import FileError, read_json, write_text
from model.common.provenance import checksum

CACHE = "work/contents.json"
"""Path of the cache in a results folder. Without it, every file is read once more."""

_MUCH = 20_000_000_000
"""Reading more bytes than this takes a while and is announced."""

Signature = tuple[int, int, int, int]


class Contents:
    """Hashes of files, cached in a results folder.

    A file counts as unchanged if its size, inode, modification time *and* the time of its last status change are the same.
    Programs cannot set the latter back, so an edit is noticed even if it restores the modification time.

    Args:
        results: folder of the cache. Files in it are stored under their relative paths, so the folder can be moved.
        say: called with a line if there is a lot to read.
    """

    def __init__(self, results: Path, say: Callable[[str], None] | None = None) -> None:
        self.results = results
        self._say = say
        self._inside = f"{results}{os.sep}"
        self._known: dict[str, tuple[Signature, str]] = {}
        self._changed = False
        with suppress(FileError, KeyError, TypeError, ValueError):
            for name, (signature, digest) in read_json(results / CACHE)["files"].items():
                self._known[name] = (tuple(signature), str(digest))

    def of(self, file: Path) -> str | None:
        """SHA-256 of a file; None if it does not exist or cannot be read."""
        signature = _signature(file)
        if signature is None:
            return None
        name = self._name(file)
        known = self._known.get(name)
        if known is not None and known[0] == signature:
            return known[1]
        try:
            digest = checksum(file)
        except OSError:
            return None
        if _signature(file) == signature:  # it did not change while it was read
            self._known[name] = (signature, digest)
            self._changed = True
        return digest

    def read_ahead(self, files: Iterable[Path]) -> None:
        """Hash the files that are not in the cache, several at a time."""
        unknown = {}
        for file in files:
            signature = _signature(file)
            known = self._known.get(self._name(file))
            if signature is not None and (known is None or known[0] != signature):
                unknown[file] = signature[0]
        size = sum(unknown.values())
        if size > _MUCH and self._say is not None:
            self._say(
                f"{self.results}: reading {len(unknown)} files ({size / 1e9:,.0f} GB) once, to know their content"
            )
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            list(pool.map(self.of, unknown))

    def save(self) -> None:
        """Write the cache if it has changed; has no effect where the folder is read-only."""
        if not self._changed or not (self.results / CACHE).parent.is_dir():  # no workflow has run there yet
            return
        present = {name: entry for name, entry in sorted(self._known.items()) if (self.results / name).exists()}
        with suppress(OSError):
            write_text(self.results / CACHE, json.dumps({"files": present}, indent=0) + "\n")
            self._changed = False

    def _name(self, file: Path) -> str:
        text = str(file)
        return text[len(self._inside) :] if text.startswith(self._inside) else os.path.abspath(text)


def _signature(file: Path) -> Signature | None:
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino
