"""Fetching one large file over HTTP: resumed where it broke off, checked, and under its name only when it is complete.

The downloaders of common packages do not resume a partial file, which 20 GB over a shared connection require.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import requests

from model.common.files import write_json, write_text
from model.common.progress_bar import progress_bar

_CHUNK = 1 << 20
_BLOCK = 1 << 16
"""Bytes of a transfer that are written at once; at most this many are lost when it is interrupted."""
_TIMEOUT = (30, 120)
"""Seconds to wait for a connection, and for the next bytes."""
_SPARE = 64 << 20
"""Bytes that have to stay free on the disk."""
_DEFINITE = frozenset({400, 401, 403, 404, 405, 410, 451})
"""Answers that asking again does not change."""


class DownloadError(ValueError):
    """A file that cannot be had, or is not the expected one; the message names it, and what to do."""


class _Broken(Exception):
    """A transfer that broke off and may be tried again."""


@dataclass(frozen=True)
class Checksum:
    """What a file's bytes add up to: an algorithm of ``hashlib``, and the hexadecimal digest or how it begins."""

    algorithm: str
    digest: str

    @classmethod
    def parse(cls, text: str) -> Checksum:
        """Read ``algorithm:digest``.

        Raises:
            DownloadError: if the text is something else.
        """
        algorithm, _, digest = text.partition(":")
        if algorithm not in ("md5", "sha1", "sha256") or not re.fullmatch("[0-9a-f]+", digest):
            raise DownloadError(f"checksum '{text}' is not md5:…, sha1:… or sha256:…")
        return cls(algorithm, digest)

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.digest}"


def fetch(
    url: str,
    file: Path,
    *,
    checksum: Checksum | None = None,
    size: int | None = None,
    attempts: int = 5,
    pause: float = 2.0,
) -> str:
    """Get a file: the one that exists already, or else the one at ``url``.

    Bytes go to ``<file>.part``. An interrupted transfer is resumed there, even by a later call, if the server still
    offers the same file. Without a published checksum the SHA-256 of the first download is kept in ``<file>.sha256`` and
    compared from then on.

    Args:
        url: http or https.
        file: where it goes.
        checksum: the published one, if there is one.
        size: in bytes, if it is known.
        attempts: in a row that may bring no byte before giving up.
        pause: seconds before the second attempt; doubled before every further one.

    Returns:
        The SHA-256 of the file.

    Raises:
        DownloadError: if the file cannot be had, is not the expected one, or does not fit on the disk.
    """
    if file.is_file():
        return _checked(file, checksum or _kept_checksum(file), f"remove it, and it is fetched again from {url}")
    if urlsplit(url).scheme not in ("http", "https"):
        raise DownloadError(f"{url} is not an http or https address")
    part = file.with_name(f"{file.name}.part")
    file.parent.mkdir(parents=True, exist_ok=True)
    resumed = part.exists() and part.stat().st_size > 0
    _transfer_all(url, part, size, attempts, pause)
    try:
        digest = _checked(part, checksum, f"{url} offers something else")
    except DownloadError:
        _forget(part)
        if not resumed:
            raise
        _transfer_all(url, part, size, attempts, pause)  # what an earlier call had left may have been the trouble
        try:
            digest = _checked(part, checksum, f"{url} offers something else")
        except DownloadError:
            _forget(part)
            raise
    if checksum is None:
        write_text(_kept_file(file), f"{digest}  {file.name}\n")
        print(f"{file}: no checksum has been published; sha256 {digest} is kept in {_kept_file(file)}", file=sys.stderr)
    part.replace(file)
    _forget(part)
    return digest


def _transfer_all(url: str, part: Path, size: int | None, attempts: int, pause: float) -> None:
    """Fill ``part``, in as many transfers as it takes."""
    failures, wait = 0, pause
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _transfer(url, part, size)
            return
        except (_Broken, requests.RequestException) as error:
            after = part.stat().st_size if part.exists() else 0
            if after > before:
                failures, wait = 0, pause
            failures += 1
            if failures >= attempts:
                raise DownloadError(
                    f"{url} cannot be fetched: {error}. {after:,} bytes are in {part} and are used when you try again; "
                    f"or put the file there by other means, as {part.with_suffix('')}"
                ) from None
        print(f"{url}: transfer broke off at byte {after:,}; going on in {wait:.0f} s", file=sys.stderr, flush=True)
        time.sleep(wait)
        wait *= 2


def _transfer(url: str, part: Path, size: int | None) -> None:
    """One request; appends to ``part`` where that is possible."""
    state = _state_file(part)
    present = part.stat().st_size if part.exists() else 0
    known = _read_state(state) if present else {}
    headers = {"Accept-Encoding": "identity", "User-Agent": "segue"}
    if known.get("url") == url and known.get("validator"):
        headers |= {"Range": f"bytes={present}-", "If-Range": known["validator"]}
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as answer:
        if urlsplit(url).scheme == "https" and urlsplit(answer.url).scheme != "https":
            raise DownloadError(f"{url} leads to {answer.url}, which is not encrypted any more")
        if answer.status_code in _DEFINITE:
            raise DownloadError(
                f"{url} answers {answer.status_code} {answer.reason}: look whether it has moved, and put the file there "
                f"by other means, as {part.with_suffix('')}"
            )
        if answer.status_code == 416:  # there is nothing after what is here: either complete, or of another file
            total = _total(answer.headers.get("Content-Range"))
            if total == present:
                return
            part.unlink()
            raise _Broken("the server offers another file than before")
        if answer.status_code not in (200, 206):
            raise _Broken(f"the server answers {answer.status_code} {answer.reason}")
        start = present if answer.status_code == 206 else 0
        if answer.status_code == 206:
            first = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
            if first is None or int(first[1]) != present:
                part.unlink()
                raise _Broken("the server continues at another byte than asked for")
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length is not None else None
        _check_size(url, part, start, total, size)
        validator = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
        write_json(state, {"url": url, "validator": "" if validator.startswith("W/") else validator})
        with (
            part.open("ab" if start else "wb") as stream,
            progress_bar(total, f"fetching {part.stem}", "B", start=start) as progress,
        ):
            for block in answer.iter_content(_BLOCK):
                stream.write(block)
                progress.update(len(block))
    present = part.stat().st_size
    if total is not None and present < total:
        raise _Broken(f"{total - present:,} of {total:,} bytes are missing")


def _check_size(url: str, part: Path, start: int, total: int | None, size: int | None) -> None:
    if total is None:
        return
    if size is not None and total != size:
        _forget(part)
        raise DownloadError(f"{url} has {total:,} bytes, expected {size:,}: it is not the published file any more")
    free = shutil.disk_usage(part.parent).free
    if total - start + _SPARE > free:
        raise DownloadError(
            f"{url} has {total:,} bytes, but {part.parent} has only {max(0, free - _SPARE):,} free: free some space"
        )


def _checked(file: Path, checksum: Checksum | None, remedy: str) -> str:
    """The SHA-256 of a file whose checksum is right."""
    ours, theirs = hashlib.sha256(), hashlib.new(checksum.algorithm) if checksum else None
    with file.open("rb") as stream:
        while block := stream.read(_CHUNK):
            ours.update(block)
            if theirs is not None:
                theirs.update(block)
    if checksum is not None and theirs is not None and not theirs.hexdigest().startswith(checksum.digest):
        found = Checksum(checksum.algorithm, theirs.hexdigest())
        raise DownloadError(f"{file} has {found}, expected {checksum}: {remedy}")
    return ours.hexdigest()


def _total(content_range: str | None) -> int | None:
    found = re.search(r"/(\d+)$", content_range or "")
    return int(found[1]) if found else None


def _kept_file(file: Path) -> Path:
    return file.with_name(f"{file.name}.sha256")


def _kept_checksum(file: Path) -> Checksum | None:
    kept = _kept_file(file)
    words = kept.read_text(encoding="utf-8").split() if kept.is_file() else []
    return Checksum.parse(f"sha256:{words[0]}") if words else None


def _state_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_state(state: Path) -> dict[str, str]:
    try:
        content = json.loads(state.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return {}
    return content if isinstance(content, dict) else {}


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _state_file(part).unlink(missing_ok=True)
