"""The methods between which all others are expected, and the order of methods in tables and legends."""

from __future__ import annotations

from collections.abc import Iterable

from model.common.names import VARIANT

UPPER_BOUND, LOWER_BOUND = "joint", "finetuning"


def is_upper_bound(method: str) -> bool:
    """Whether a method learns all classes at once: its values are no competition."""
    name = plain_name(method)
    return name == UPPER_BOUND or name.endswith(f"-{UPPER_BOUND}")


def method_order(methods: Iterable[str]) -> list[str]:
    """The upper bound first, the lower bound last, the others in between in alphabetical order."""
    rank = {UPPER_BOUND: -1, LOWER_BOUND: 1}
    return sorted(set(methods), key=lambda method: (rank.get(plain_name(method), 0), method))


def plain_name(method: str) -> str:
    """Without the folder that a comparison puts behind a name, as in ``joint (yours)``, and without the values of a sweep."""
    return method.partition(" (")[0].partition(VARIANT)[0]
