"""Which classes are learnt when.

A *scenario* cuts an ordered list of classes into steps: ``15-5`` on 20 classes is a base step of 15 and one increment of 5.
Ids in this module are the dataset's own category ids; a *position* is a class's place in the learning order, which is what
networks, losses and metrics count in. This module knows neither images nor tensors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SETTINGS = ("overlapped", "disjoint", "sequential", "partition")
JOINT = "joint"

_NAME = re.compile(r"(?P<base>\d+)-(?P<increment>\d+)(?:(?P<letter>[a-z])|\.(?P<name>[a-z][a-z0-9-]*))?")


class ScenarioError(ValueError):
    """A scenario that cannot be built; the message names the scenario, what was expected and the remedy."""


@dataclass(frozen=True)
class Step:
    """One step of a scenario.

    Attributes:
        index: 0 for the base step.
        past: category ids learnt in earlier steps, in learning order; empty at the base step.
        current: category ids learnt in this step, in learning order.
        future: number of classes of each later step, where a method has to know it; else empty.
    """

    index: int
    past: tuple[int, ...]
    current: tuple[int, ...]
    future: tuple[int, ...] = ()

    @property
    def seen(self) -> tuple[int, ...]:
        """Every category id known after this step, in learning order."""
        return self.past + self.current

    @property
    def plain(self) -> dict[str, Any]:
        """The fields as plain data, for descriptions of jobs."""
        told = {"future": self.future} if self.future else {}
        return {"index": self.index, "past": self.past, "current": self.current, **told}


@dataclass(frozen=True)
class Scenario:
    """An ordered partition of a dataset's classes into steps.

    Attributes:
        name: as configured, e.g. ``15-1``, ``100-10b`` or the user's own name of an explicit list.
        increments: category ids of every step, in learning order.
    """

    name: str
    increments: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if not self.increments:
            raise ScenarioError(f"scenario '{self.name}' has no step; give at least one list of classes")
        seen: set[int] = set()
        for index, classes in enumerate(self.increments):
            if not classes:
                raise ScenarioError(f"scenario '{self.name}': step {index} has no class; remove the empty list")
            for category in classes:
                if category in seen:
                    raise ScenarioError(
                        f"scenario '{self.name}': class {category} is learnt twice (again in step {index}); "
                        "every class belongs to exactly one step"
                    )
                seen.add(category)

    @property
    def order(self) -> tuple[int, ...]:
        """All category ids in learning order."""
        return tuple(category for classes in self.increments for category in classes)

    @property
    def last(self) -> int:
        """Index of the last step."""
        return len(self.increments) - 1

    def __len__(self) -> int:
        return len(self.increments)

    def step(self, index: int) -> Step:
        """The step with this index.

        Raises:
            IndexError: if the scenario has no such step.
        """
        if not 0 <= index < len(self.increments):
            raise IndexError(f"scenario '{self.name}' has steps 0…{self.last}, not {index}")
        past = tuple(category for classes in self.increments[:index] for category in classes)
        return Step(index, past, self.increments[index])

    @classmethod
    def from_name(
        cls, name: str, classes: Sequence[int], orders: Mapping[str, Sequence[int]] | None = None
    ) -> Scenario:
        """Build ``base-increment[order]`` over a dataset's classes.

        Args:
            name: e.g. ``100-10`` (natural order), ``100-10b`` (the class order with the letter ``b``) or
                ``100-10.comformer-b`` (the class order of that name); ``joint`` is one step.
            classes: every category id of the dataset *and task*, in natural order.
            orders: class orders by letter or name, each a permutation of ``classes``. A key that is base, increment and
                letter at once (``19-1b``) means this scenario only and wins.

        Raises:
            ScenarioError: for a name that does not parse, does not divide the classes, or names an unknown order.
        """
        if name == JOINT:
            return cls(name, (tuple(sorted(classes)),))
        match = _NAME.fullmatch(name)
        if match is None:
            raise ScenarioError(
                f"scenario '{name}' is not of the form base-increment, such as 100-10, 15-1b or 100-10.comformer-b"
            )
        base, increment = int(match["base"]), int(match["increment"])
        order = tuple(classes)
        if wanted := match["letter"] or match["name"]:
            known = orders or {}
            key = name if name in known else wanted
            if key not in known:
                raise ScenarioError(
                    f"scenario '{name}': the dataset has no class order '{wanted}' "
                    f"(known: {', '.join(sorted(known)) or 'none'})"
                )
            order = tuple(known[key])
            if sorted(order) != sorted(classes):
                raise ScenarioError(f"class order '{key}' is not a permutation of the dataset's {len(classes)} classes")
        if base < 1 or increment < 1:
            raise ScenarioError(f"scenario '{name}' has a step without a class; both numbers are at least 1")
        rest = len(order) - base
        if rest < 0:
            raise ScenarioError(f"scenario '{name}': there are {len(order)} classes, but the base step asks for {base}")
        if rest % increment:
            raise ScenarioError(
                f"scenario '{name}' does not divide {len(order)} classes: {len(order)} - {base} = {rest} "
                f"is not a multiple of {increment}"
            )
        increments = [order[:base]]
        increments += [order[start : start + increment] for start in range(base, len(order), increment)]
        return cls(name, tuple(increments))


def class_groups(scenario: Scenario, step: int) -> dict[str, tuple[int, ...]]:
    """Category ids of the result groups after a step, as every table of Segue uses them.

    ``old`` is step 0, ``new`` everything learnt since, ``past`` everything before this step, ``current`` this step,
    ``all`` everything so far. Groups may be empty (``new`` and ``past`` at step 0).
    """
    now = scenario.step(step)
    base = scenario.increments[0]
    return {
        "old": base,
        "new": now.seen[len(base) :],
        "past": now.past,
        "current": now.current,
        "all": now.seen,
    }
