"""How much of what was learnt is lost over the steps.

Forgetting after step T is the best earlier value minus the last one (Chaudhry et al., RWalk, ECCV 2018, eq. 3):

    f_c = max_{t < T} value_c(t) − value_c(T)

Positive values are losses. It is defined for classes learnt before the last step; those learnt in step T have had no time to
be forgotten.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class StepsError(ValueError):
    """Values of steps that do not form one run."""


def require_steps(steps: Sequence[int], what: str) -> None:
    """Check that a run was evaluated after each of the steps 0, 1, …, T exactly once.

    Raises:
        StepsError: naming ``what`` and the first step that is missing or given twice.
    """
    if not steps:
        raise StepsError(f"{what}: no step was evaluated")
    for expected, step in enumerate(sorted(steps)):
        if step > expected:
            raise StepsError(f"{what}: step {expected} was not evaluated, but later steps were; evaluate every step")
        if step < expected:
            raise StepsError(f"{what}: step {step} is given twice")


def forgetting(values: Sequence[float | None]) -> float | None:
    """Best earlier value minus the last; None if there is no earlier or no last value.

    Args:
        values: one value per step; None where there is none, e.g. before a class was learnt.
    """
    if not values or values[-1] is None:
        return None
    earlier = [value for value in values[:-1] if value is not None]
    return max(earlier) - values[-1] if earlier else None


def class_forgetting(values: Sequence[Mapping[str, float | None]]) -> dict[str, float]:
    """Forgetting of every class that has a value in an earlier step and in the last one.

    Args:
        values: class key → value, one mapping per step.
    """
    if not values:
        return {}
    found = {key: forgetting([step.get(key) for step in values]) for key in values[-1]}
    return {key: value for key, value in found.items() if value is not None}


def mean_forgetting(of_classes: Mapping[str, float], members: Sequence[str]) -> float | None:
    """Mean forgetting over the classes of a group that have a value; None if none has.

    The mean runs over classes, not over the group's own values: a group whose members change from step to step
    (``all``) would otherwise seem to forget whenever a difficult class joins it.
    """
    chosen = [of_classes[key] for key in members if key in of_classes]
    return sum(chosen) / len(chosen) if chosen else None


def average_over_steps(values: Sequence[float]) -> float:
    """PLOP's "avg": the mean, over steps 0 … T, of the value of all classes seen so far.

    Raises:
        StepsError: if there is no step.
    """
    if not values:
        raise StepsError("there is no step to average over")
    return sum(values) / len(values)
