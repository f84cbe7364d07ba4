"""For the documentation site: formulas in docstrings become MathML, which browsers draw by themselves.

An extension of griffe, which reads the docstrings for mkdocstrings; ``mkdocs.yml`` names it.
"""

from __future__ import annotations

import re
from typing import Any

import griffe
from latex2mathml.converter import convert

_BLOCK = re.compile(r"^([ \t]*)\.\. math:: ?(.*(?:\n\1[ \t]+\S.*)*)", re.MULTILINE)
_INLINE = re.compile(r":math:`([^`]+)`")
_ROLE = re.compile(r":(?:class|func|meth|attr|mod|data):`~?([^`]+)`")


class Formulas(griffe.Extension):
    """Rewrites ``.. math::`` and ``:math:`` before docstrings are taken apart; other roles become code."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for every module, class, function and attribute."""
        if obj.docstring:
            obj.docstring.value = with_mathml(obj.docstring.value)


def with_mathml(docstring: str) -> str:
    """The text with its formulas as MathML.

    >>> with_mathml("so :math:`x` is")[:30]
    'so <math xmlns="http://www.w3.o'
    """
    text = _BLOCK.sub(lambda found: f"{found[1]}{_mathml(found[2], 'block')}", docstring)
    text = _INLINE.sub(lambda found: _mathml(found[1], "inline"), text)
    return _ROLE.sub(lambda found: f"`{found[1]}`", text)


def _mathml(formula: str, display: str) -> str:
    return str(convert(" ".join(formula.split()), display=display))
