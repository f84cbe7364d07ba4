"""Whether two tables rank methods alike: Kendall's τ with a bootstrap interval over images and seeds.

Kendall, "A New Measure of Rank Correlation", Biometrika 1938, as τ-b, which allows for ties. Efron, "Bootstrap Methods", 1979:
validation images are drawn anew with replacement, for all methods the same ones, and so are the seeds; the interval is that of
the τ that this gives. Published tables have no such spread and stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.stats import kendalltau

from model.evaluation.metrics.confusion import ConfusionMatrix
from model.reporting.escaping import figure_text

FEWEST = 3
"""Methods that two tables must share: two alone always agree or disagree altogether."""


class AgreementError(ValueError):
    """Results that cannot be ranked together; the message says which and why."""


@dataclass(frozen=True)
class Agreement:
    """How a table of ours and a published one rank the methods that both have.

    Attributes:
        title: of the published table.
        methods: that both have, best published first.
        ours: value of each, mean over seeds.
        published: value of each.
        tau: Kendall's τ-b; NaN if one of the tables has only ties.
        low, high: 95 % interval of τ over images and seeds.
    """

    title: str
    methods: tuple[str, ...]
    ours: tuple[float, ...]
    published: tuple[float, ...]
    tau: float
    low: float
    high: float


def kendall(ours: Sequence[float], published: Sequence[float]) -> float:
    """τ-b of two lists of values, from −1 (opposite order) to 1 (same order)."""
    return float(kendalltau(ours, published).statistic)


def compare(
    matrices: Mapping[str, Sequence[ConfusionMatrix]],
    tables: Mapping[str, Mapping[str, float]],
    score: Callable[[ConfusionMatrix], float],
    *,
    draws: int = 1000,
    generator: np.random.Generator,
) -> list[Agreement]:
    """Compare our ranking with that of every published table that shares enough methods.

    Args:
        matrices: method → raw counts after the last step, one per seed; all of the same images and as many seeds.
        tables: title → method → published value.
        score: value of a matrix, higher is better.
        draws: bootstrap samples.
        generator: draws them.

    Returns:
        One agreement per table, in their order.

    Raises:
        AgreementError: if methods have other numbers of images or seeds.
    """
    shared = {title: [m for m in table if m in matrices] for title, table in tables.items()}
    shared = {title: methods for title, methods in shared.items() if len(methods) >= FEWEST}
    ranked = list(dict.fromkeys(method for methods in shared.values() for method in methods))
    images, seeds = _extent({method: matrices[method] for method in ranked})
    ours = {method: float(np.mean([score(matrix) for matrix in matrices[method]])) for method in ranked}
    samples = {method: np.empty(draws) for method in ranked}
    for draw in range(draws if ranked else 0):
        times = generator.multinomial(images, np.full(images, 1 / images))
        chosen, share = np.unique(generator.integers(seeds, size=seeds), return_counts=True)
        for method in ranked:
            values = [score(matrices[method][seed].resampled(times)) for seed in chosen]
            samples[method][draw] = np.average(values, weights=share)
    found = []
    for title, methods in shared.items():
        published = tables[title]
        order = sorted(methods, key=lambda method: (-published[method], method))
        theirs = [published[method] for method in order]
        drawn = [kendall(column, theirs) for column in np.array([samples[method] for method in order]).T]
        low, high = np.nanquantile(drawn, (0.025, 0.975))
        values = [ours[method] for method in order]
        found.append(
            Agreement(
                title, tuple(order), tuple(values), tuple(theirs), kendall(values, theirs), float(low), float(high)
            )
        )
    return found


def _extent(matrices: Mapping[str, Sequence[ConfusionMatrix]]) -> tuple[int, int]:
    """Number of images and seeds that all methods have."""
    found = {method: ({sum(matrix.images) for matrix in ms}, len(ms)) for method, ms in matrices.items()}
    if not found:
        return 0, 0
    first = next(iter(found))
    for method, extent in found.items():
        if extent != found[first] or len(extent[0]) != 1:
            raise AgreementError(
                f"'{method}' has {extent[1]} seeds on {sorted(extent[0])} images, '{first}' {found[first][1]} on "
                f"{sorted(found[first][0])}: rank methods of the same images and seeds"
            )
    return next(iter(found[first][0])), found[first][1]


def agreement_rows(found: Mapping[str, Sequence[Agreement]]) -> pd.DataFrame:
    """One row per scenario, published table and method, with the τ of the table.

    Args:
        found: scenario and setting → agreements.
    """
    rows = [
        {
            "scenario": scenario,
            "table": one.title,
            "tau": one.tau,
            "low": one.low,
            "high": one.high,
            "method": method,
            "ours": ours,
            "published": published,
        }
        for scenario, agreements in found.items()
        for one in agreements
        for method, ours, published in zip(one.methods, one.ours, one.published, strict=True)
    ]
    return pd.DataFrame(rows, columns=["scenario", "table", "tau", "low", "high", "method", "ours", "published"])


def agreement_figure(found: Mapping[str, Sequence[Agreement]]) -> Figure:
    """τ of every published table with its interval, one line each; 0 is what unrelated orders have.

    Args:
        found: scenario and setting → agreements.
    """
    lines = [(scenario, one) for scenario, agreements in found.items() for one in agreements]
    figure = Figure(figsize=(6.4, 1.0 + 0.32 * max(1, len(lines))), layout="constrained")
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    for place, (_, one) in enumerate(reversed(lines)):
        panel.plot([one.low, one.high], [place, place], color="#0072B2", linewidth=2)
        panel.plot([one.tau], [place], "o", color="#0072B2")
    labels = [figure_text(f"{scenario}: {one.title}, {len(one.methods)} methods") for scenario, one in reversed(lines)]
    panel.set_yticks(range(len(lines)), labels, fontsize=8)
    panel.axvline(0, color="#8C8C8C", linewidth=0.8)
    panel.set_xlim(-1.05, 1.05)
    panel.set_xlabel("Kendall's τ with the published order")
    if not lines:
        panel.text(0, 0, "no published table has three of these methods", ha="center", va="center")
    return figure
