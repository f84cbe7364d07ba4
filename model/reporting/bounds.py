"""The methods between which all others are expected, and the order of methods in tables and legends."""

from __future__ import annotations

from collections.abc import Iterable

UPPER_BOUND, LOWER_BOUND = "joint", "finetuning"


def is_upper_bound(method: str) -> bool:
    """Whether a method learns all classes at once: its values are no competition."""
    name = _plain(method)
    return name == UPPER_BOUND or name.endswith(f"-{UPPER_BOUND}")


def method_order(methods: Iterable[str]) -> list[str]:
    """The upper bound first, the lower bound last, the others in between in alphabetical order."""
    rank = {UPPER_BOUND: -1, LOWER_BOUND: 1}
    return sorted(set(methods), key=lambda method: (rank.get(_plain(method), 0), method))


def _plain(method: str) -> str:
    """Without the folder that a comparison of several puts behind a name, as in ``joint (yours)``."""
    return method.partition(" (")[0]
