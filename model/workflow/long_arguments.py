"""Arguments too long for a command line, which the system limits to 128 kB, are read from files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from model.common.files import write_text
from model.common.fingerprints import short_hash

_LONGEST = 20_000
"""Characters; the whole command has to fit, and quoting makes it longer."""


def is_long(text: str) -> bool:
    """Whether a text has to be passed by a file."""
    return len(text) > _LONGEST


def long_argument_file(results: Path, text: str) -> Path:
    """The file for a long text; equal texts share one."""
    return results / "work" / "arguments" / f"{short_hash(text, 16)}.json"


def write_long_arguments(results: Path, texts: Iterable[str]) -> None:
    """Write the files of those texts that are long, where they are not there yet.

    Raises:
        NotWrittenError: if one cannot be written.
    """
    for text in texts:
        if is_long(text) and not (file := long_argument_file(results, text)).exists():
            write_text(file, text)
