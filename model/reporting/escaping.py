"""Text of others (names of classes, methods and papers, notes) in tables and figures: it is shown, never interpreted.

Numbers are not text and stay as they are.
"""

from __future__ import annotations

import html
import re

import pandas as pd

_LATEX = {
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"},
    **{"±": r"$\pm$", "–": "--", "—": "---", "…": r"\ldots{}", "→": r"$\to$", "†": r"$^\dagger$"},
}
_MARKDOWN = re.compile(r"([\\`*_\[\]<>|~])")
_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")
"""How text begins that spreadsheets would calculate."""


def latex_text(text: str) -> str:
    """Text for a LaTeX document; a table's cells and captions hold one line."""
    return "".join(_LATEX.get(character, character) for character in _one_line(text))


def markdown_text(text: str) -> str:
    """Text for Markdown, in a cell of a table as well; HTML in it is not understood as such."""
    return _MARKDOWN.sub(r"\\\1", _one_line(text)).replace("&", "&amp;")


def html_text(text: str) -> str:
    """Text for HTML, between tags and in quoted attributes."""
    return html.escape(text, quote=True)


def figure_text(text: str) -> str:
    """Text for matplotlib, which takes what stands between two dollars for a formula."""
    return _one_line(text).replace("$", r"\$")


def csv_text(text: str) -> str:
    """A cell that no spreadsheet takes for a formula: an apostrophe before it says that it is text."""
    return f"'{text}" if _FORMULA.match(text) else text


def plain_text(cell: str) -> str:
    """What :func:`csv_text` was given."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell[1:]) else cell


def csv_cells(frame: pd.DataFrame) -> pd.DataFrame:
    """A table whose text is safe in spreadsheets."""
    return frame.map(lambda cell: csv_text(cell) if isinstance(cell, str) else cell)


def _one_line(text: str) -> str:
    """Text in which control characters and line ends are blanks."""
    return "".join(character if character.isprintable() else " " for character in text)
