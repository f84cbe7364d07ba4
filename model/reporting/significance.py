"""Whether two methods differ by more than chance: a paired bootstrap over validation images and seeds.

Efron, "Bootstrap Methods", 1979. Images are drawn anew with replacement, for all methods and seeds the same ones, and so are the
seeds that both methods have. The interval is that of the difference between the two means; the p value is twice the share of
draws in which the other method is ahead. It is not corrected for the number of pairs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from model.reporting.bounds import method_order
from model.reporting.printed import MISSING, Cell, Row, Table
from model.reporting.resampling import Resampled

LEVEL = 0.95
GROUPS = ("old", "new", "all")
COLUMNS = (
    "dataset", "task", "scenario", "setting", "recipe", "protocol", "group", "method", "other",
    "difference", "low", "high", "p", "seeds", "images",
)  # fmt: skip


class SignificanceError(ValueError):
    """Evaluations that cannot be compared in pairs; the message says which and why."""


@dataclass(frozen=True)
class Difference:
    """How much better one method is than another, in points.

    Attributes:
        group: of classes.
        method, other: names.
        difference: mean of ``method`` minus mean of ``other``, over the seeds that both have.
        low, high: 95 % interval.
        p: two-sided.
        seeds: that both have.
        images: number of images.
    """

    group: str
    method: str
    other: str
    difference: float
    low: float
    high: float
    p: float
    seeds: int
    images: int


def differences(
    evaluations: Mapping[str, Mapping[int, Resampled]],
    *,
    groups: Sequence[str] = GROUPS,
    draws: int = 1000,
    generator: np.random.Generator,
) -> list[Difference]:
    """Compare each pair of methods.

    Args:
        evaluations: method → seed → evaluation after the last step, all of the same images.
        groups: of classes.
        draws: bootstrap samples.
        generator: draws them.

    Returns:
        By group and pair, in the order of tables; pairs without a common seed are left out.

    Raises:
        SignificanceError: if evaluations are of different numbers of images.
    """
    methods = method_order(evaluations)
    images = _images(evaluations)
    seeds = sorted({seed for found in evaluations.values() for seed in found})
    samples = {(m, seed): _samples(draws, groups) for m in methods for seed in evaluations[m]}
    for draw in range(draws):
        times = generator.multinomial(images, np.full(images, 1 / images))
        for (method, seed), values in samples.items():
            scores = evaluations[method][seed].scores(times)
            values[draw] = [scores.get(group, np.nan) for group in groups]
    once = np.ones(images, np.int64)
    measured = {key: evaluations[key[0]][key[1]].scores(once) for key in samples}
    chosen = generator.random((draws, len(seeds)))
    found = []
    for place, group in enumerate(groups):
        for method, other in combinations(methods, 2):
            common = [seed for seed in seeds if seed in evaluations[method] and seed in evaluations[other]]
            if not common or any(group not in measured[m, seed] for m in (method, other) for seed in common):
                continue
            drawn = (chosen[:, : len(common)] * len(common)).astype(int)  # of each draw as many seeds as there are
            gaps = np.stack([samples[method, seed][:, place] - samples[other, seed][:, place] for seed in common])
            means = np.nanmean(np.take_along_axis(gaps, drawn.T, axis=0), axis=0)
            gap = float(np.mean([measured[method, s][group] - measured[other, s][group] for s in common]))
            low, high = np.nanquantile(means, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
            tail = min(int((means <= 0).sum()), int((means >= 0).sum()))
            p = min(1.0, 2 * (1 + tail) / (1 + draws))
            found.append(Difference(group, method, other, gap, float(low), float(high), p, len(common), images))
    return found


def difference_rows(found: Mapping[tuple[str, ...], Iterable[Difference]]) -> pd.DataFrame:
    """One row per comparison, group and pair.

    Args:
        found: (dataset, task, scenario, setting, recipe, protocol) → differences.
    """
    rows = [
        (*key, one.group, one.method, one.other, one.difference, one.low, one.high, one.p, one.seeds, one.images)
        for key, differences_of in found.items()
        for one in differences_of
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def difference_tables(rows: pd.DataFrame, level: float = 1 - LEVEL) -> list[Table]:
    """A table per comparison for the group of all classes: row minus column, bold where the two differ.

    Args:
        rows: from :func:`difference_rows`.
        level: p value below which two methods differ.
    """
    tables = []
    of_all = rows[rows["group"] == "all"]
    for key, part in of_all.groupby(list(COLUMNS[:6]), sort=True):
        dataset, task, scenario, setting, recipe, protocol = map(str, key)
        methods = method_order([*part["method"], *part["other"]])
        cells = {}
        for row in part.to_dict("records"):
            for pair, sign in (((row["method"], row["other"]), 1), ((row["other"], row["method"]), -1)):
                low, high = sorted((sign * row["low"], sign * row["high"]))
                text = f"{sign * row['difference']:+.2f} [{low:+.2f}, {high:+.2f}]"
                cells[pair] = Cell(text, 1 if row["p"] < level else 0)
        printed = tuple(Row(m, tuple(cells.get((m, other), Cell(MISSING)) for other in methods)) for m in methods)
        few = part["seeds"].min() == 1
        spread = "of images alone, since there is one seed" if few else "of images and seeds"
        title = f"{dataset}, {task}, {scenario} {setting}, recipe {recipe}, protocol {protocol}"
        note = f"Row minus column, in points, with the 95 % interval {spread}; bold where p < {level:.2g}"
        tables.append(Table(title, "all classes", tuple(("", m) for m in methods), printed, footnotes=(note,)))
    return tables


def _samples(draws: int, groups: Sequence[str]) -> np.ndarray:
    return np.full((draws, len(groups)), np.nan)


def _images(evaluations: Mapping[str, Mapping[int, Resampled]]) -> int:
    counts = {(method, seed): one.images for method, found in evaluations.items() for seed, one in found.items()}
    if len(set(counts.values())) > 1:
        (low, few), (high, many) = (pick(counts.items(), key=lambda item: item[1]) for pick in (min, max))
        raise SignificanceError(
            f"'{low[0]}' (seed {low[1]}) was evaluated on {few} images, '{high[0]}' (seed {high[1]}) on {many}: "
            "compare evaluations of the same images"
        )
    return next(iter(counts.values()), 0)
