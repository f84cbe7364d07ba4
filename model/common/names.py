"""Messages about names that do not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

VARIANT = "@"
"""What stands between the name of a method or recipe and the values that were changed in it; no configured name has it."""
RENAMED = {
    "minimum_factor": "minimum_rate",
    "most_instances": "max_detections",
    "smallest_threshold": "min_threshold",
}
"""Former names of keys and hyper-parameters. They are refused, with the present name."""
_OTHER_MEANING = {"minimum_factor": ", which is a learning rate and no longer a factor of it"}


def hint(name: str, known: Iterable[str]) -> str:
    """What may have been meant: the present name of what was renamed, the nearest known name, or all known names."""
    names = sorted(known)
    if RENAMED.get(name) in names:
        return f"it is called '{RENAMED[name]}' now{_OTHER_MEANING.get(name, '')}"
    folded = {other.casefold(): other for other in names}
    near = difflib.get_close_matches(name.casefold(), folded, n=1)
    return f"did you mean '{folded[near[0]]}'?" if near else f"known: {', '.join(names) or 'none'}"


def unknown_name(what: str, name: str, known: Iterable[str]) -> str:
    """The common message for an unknown name."""
    return f"unknown {what} '{name}'; {hint(name, known)}"
