"""The scores of an evaluation: one value per group and metric, and one per class and metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

BACKGROUND = "background"
"""Key of the background among per-class values; classes have their category id as text."""

GROUPS = ("old", "new", "past", "current", "all")
"""Result groups in the order of every table; see ``model.scenario.class_groups``."""


class ScoreError(ValueError):
    """Groups that do not fit the evaluated classes."""


@dataclass(frozen=True)
class Scores:
    """Values of one evaluation, in percent.

    Attributes:
        groups: group → metric → value. A group without a class to average over has no entry.
        classes: metric → class key → value; None where the class has no value (it never occurs).
    """

    groups: dict[str, dict[str, float]] = field(default_factory=dict)
    classes: dict[str, dict[str, float | None]] = field(default_factory=dict)


def positions_of(groups: Mapping[str, Sequence[int]], classes: Sequence[int]) -> dict[str, list[int]]:
    """Indices into the learning order of every group's classes; groups without a class are left out.

    Raises:
        ScoreError: for an unknown group name, or a group with a class that was not learnt.
    """
    index = {category: position for position, category in enumerate(classes)}
    positions: dict[str, list[int]] = {}
    for name in groups:
        if name not in GROUPS:
            raise ScoreError(f"'{name}' is not a result group; choose from {', '.join(GROUPS)}")
    for name in GROUPS:
        members = groups.get(name, ())
        unknown = [category for category in members if category not in index]
        if unknown:
            raise ScoreError(f"group '{name}' holds class {unknown[0]}, which the evaluated network has not learnt")
        if members:
            positions[name] = [index[category] for category in members]
    return positions
