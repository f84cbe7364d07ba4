"""Whether a value agrees with the published one, by how it came about."""

from __future__ import annotations

import re
from dataclasses import dataclass

from model.reporting.published import PublishedValue

RELEASED_BAND = 1.0
"""So many points may the value of released weights be from the published one: other libraries, decoders and graphics cards."""
RETRAINED_BAND = 1.5
"""The same for a training of our own in at most two steps."""
SINGLE_CLASS_BAND = 3.0
"""The same for one class a step, where the spread between seeds is large."""
FEWEST_SEEDS = 3
"""So many seeds the mean of one class a step has to have."""

_INCREMENT = re.compile(r"\d+-(\d+)")


@dataclass(frozen=True)
class Origin:
    """How a value came about.

    Attributes:
        released: whether the weights are released ones.
        scenario: name, such as ``15-1``.
        steps: number of steps of the scenario, the base step included.
        seeds: number of seeds that were averaged.
        protocol: the value was evaluated under.
    """

    released: bool
    scenario: str
    steps: int
    seeds: int
    protocol: str


def verdict(mean: float, published: PublishedValue | None, origin: Origin) -> tuple[float, str]:
    """Difference from the published number, and what it says.

    Args:
        mean: as evaluated here, in percent.
        published: None if the paper does not give the number.
        origin: of ``mean``.

    Returns:
        Difference in points (NaN without a published number) and a few words. They are empty where nothing was published for a
        training of our own.
    """
    if published is None:
        return float("nan"), "no published number" if origin.released else ""
    difference = mean - published.value
    if origin.released:
        return difference, _within(difference, RELEASED_BAND)
    if origin.protocol != published.protocol:
        return difference, f"other protocol ({published.protocol})"
    if origin.steps <= 2:
        return difference, _within(difference, RETRAINED_BAND)
    increment = _INCREMENT.match(origin.scenario)
    if increment is None or int(increment[1]) > 1:
        return difference, f"no band for {origin.steps} steps"
    if origin.seeds < FEWEST_SEEDS:
        return difference, f"needs {FEWEST_SEEDS} seeds"
    return difference, _within(difference, SINGLE_CLASS_BAND)


def _within(difference: float, band: float) -> str:
    return f"{'within' if abs(difference) <= band else 'outside'} ±{band:g}"
