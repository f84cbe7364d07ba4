"""Text that people and other programs have written: UTF-8, with or without the mark that some editors put at its beginning."""

from __future__ import annotations

from pathlib import Path


class TextFileError(ValueError):
    """A file that is not the text it should be; the message names it and the remedy."""


def read_text(file: Path) -> str:
    """A whole text file.

    Raises:
        TextFileError: if it is not UTF-8.
        OSError: if it cannot be read.
    """
    content = file.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise TextFileError(
            f"{file} is not UTF-8 text (line {line}, byte 0x{content[error.start]:02x}): save it as UTF-8 in an editor"
        ) from None


def read_lines(file: Path) -> list[str]:
    """The lines of a text file that are not empty, without blanks at their ends.

    Raises:
        TextFileError: if it is not UTF-8.
        OSError: if it cannot be read.
    """
    return [line.strip() for line in read_text(file).splitlines() if line.strip()]
