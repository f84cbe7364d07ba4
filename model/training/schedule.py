"""Learning-rate schedules: pure functions of the iteration, so that continuing in the middle needs no state.

A schedule answers with a factor that multiplies the learning rate of every parameter group. It restarts at every step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Schedule = Callable[[int], float]


class ScheduleError(ValueError):
    """A schedule that cannot be; the message names the value and what was expected."""


@dataclass(frozen=True)
class Poly:
    r"""Polynomial decay, stepped every iteration, with an optional linear warm-up.

    .. math:: f(i) = w(i)\,(1 - i/I)^p, \quad
              w(i) = \begin{cases} a + (1 - a)\, i / (qI) & i < qI \\ 1 & \text{else} \end{cases}

    The warm-up multiplies the decay, which runs from the first iteration on and does not restart after the warm-up.

    Attributes:
        iterations: I, length of the step in optimiser steps.
        power: p.
        warmup_fraction: q, part of the step that warms up; 0 = none.
        warmup_factor: a, factor of the very first iteration where there is a warm-up.

    Source: DeepLab's schedule as used by all released continual-segmentation code; the warm-up is that of SSUL (10 %)
    and DKD/STAR (20 %) on ADE20K.
    """

    iterations: int
    power: float = 0.9
    warmup_fraction: float = 0.0
    warmup_factor: float = 0.001

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise ScheduleError(f"a schedule needs at least one iteration, not {self.iterations}")
        if self.power < 0:
            raise ScheduleError(f"power of a poly schedule is at least 0, not {self.power}")
        for name in ("warmup_fraction", "warmup_factor"):
            if not 0 <= getattr(self, name) <= 1:
                raise ScheduleError(f"{name} of a poly schedule must be between 0 and 1, not {getattr(self, name)}")

    def __call__(self, iteration: int) -> float:
        """Factor for an iteration, counted from 0."""
        decay: float = max(0.0, 1 - iteration / self.iterations) ** self.power
        warmup = self.warmup_fraction * self.iterations
        if iteration < warmup:
            done = iteration / warmup
            return (self.warmup_factor * (1 - done) + done) * decay
        return decay


@dataclass(frozen=True)
class MultiStep:
    r"""A constant rate that falls by a factor at milestones.

    .. math:: f(i) = γ^{\,|\{m : i ≥ m I\}|}

    Attributes:
        iterations: I, length of the step in optimiser steps.
        milestones: shares m of the step at which the rate falls, ascending.
        gamma: γ.

    Source: Mask2Former's released COCO schedules, which fall tenfold after 89 % and 96 % of the iterations.
    """

    iterations: int
    milestones: tuple[float, ...] = (0.888889, 0.962963)
    gamma: float = 0.1

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise ScheduleError(f"a schedule needs at least one iteration, not {self.iterations}")
        if list(self.milestones) != sorted(self.milestones) or not all(0 <= m <= 1 for m in self.milestones):
            raise ScheduleError(f"milestones of a schedule ascend from 0 to 1, not {list(self.milestones)}")

    def __call__(self, iteration: int) -> float:
        """Factor for an iteration, counted from 0."""
        return float(self.gamma ** sum(iteration >= m * self.iterations for m in self.milestones))


@dataclass(frozen=True)
class Constant:
    """The same rate throughout the step."""

    iterations: int

    def __call__(self, iteration: int) -> float:
        """1 for every iteration."""
        return 1.0


SCHEDULES: Mapping[str, Callable[..., Schedule]] = {"poly": Poly, "multi-step": MultiStep, "constant": Constant}
"""Schedules by the name that recipes use; the fields besides ``iterations`` are their arguments."""


def build_schedule(name: str, iterations: int, arguments: Mapping[str, Any]) -> Schedule:
    """A schedule for a step of so many iterations.

    Raises:
        ScheduleError: for an unknown name or a value out of range.
    """
    if name not in SCHEDULES:
        raise ScheduleError(f"there is no schedule '{name}'; choose one of {', '.join(SCHEDULES)}")
    return SCHEDULES[name](iterations, **arguments)
