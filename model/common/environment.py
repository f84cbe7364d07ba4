"""Environment variables in configured values."""

from __future__ import annotations

import os
from typing import Any


def expand(value: Any) -> Any:
    """Fill in ``$NAME`` and ``${NAME}`` from the environment in every string of a nested value.

    An unset variable stays unexpanded, so that the message about the missing folder names it.
    """
    if isinstance(value, dict):
        return {key: expand(item) for key, item in value.items()}
    if isinstance(value, list):
        return [expand(item) for item in value]
    return os.path.expandvars(value) if isinstance(value, str) else value
