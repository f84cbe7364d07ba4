"""Environment variables in configured values."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

_VARIABLE = re.compile(r"\$(?:\{([^}]*)\}|(\w+))", re.ASCII)


def expand(value: Any) -> Any:
    """Fill in ``$NAME`` and ``${NAME}``, and the home folder for a leading ``~/``, in every string of a nested value.

    An unset variable stays unexpanded: a class table may be known without its folder.
    """
    if isinstance(value, dict):
        return {key: expand(item) for key, item in value.items()}
    if isinstance(value, list):
        return [expand(item) for item in value]
    if not isinstance(value, str):
        return value
    text = os.path.expandvars(value)
    return os.path.expanduser(text) if text == "~" or text.startswith("~/") else text


def not_set(value: Any) -> str:
    """What to say about variables in a nested value that are not set; empty if there is none."""
    for text in _strings(value):
        for braced, plain in _VARIABLE.findall(text):
            if (name := braced or plain) not in os.environ:
                return f"{name} is not set (in '{text}'): export it, or write its value"
    return ""


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
