"""Table and figure of a sweep, from rows whose values are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from model.reporting.sweep_figures import sweep_figure
from model.reporting.sweeps import SweepError, sweep_rows, sweep_tables
from model.reporting.tables import METRIC_COLUMNS

WEIGHT, RATE = "method.weight", "recipe.optimiser.learning_rate"
SPEC: dict[str, Any] = {
    "dataset": "toy",
    "task": "semantic",
    "scenario": "4-2",
    "setting": "overlapped",
    "recipe": "small",
    "images": "test",
    "protocols": ["segue"],
}


def value(weight: float, rate: float, group: str, seed: int) -> float:
    """Best at weight 10 and rate 0.1 for all classes, at weight 100 for old ones."""
    best = {"all": 40 - 5 * abs(np.log10(weight) - 1), "old": 20 + 5 * np.log10(weight), "new": 30 / weight}[group]
    return float(best + (2 if rate == 0.1 else 0) + seed)


def swept(weights: list[Any], rates: list[Any] | None = None) -> tuple[dict[str, Any], pd.DataFrame]:
    """A sweep of ``mib`` and its rows, with ``joint`` as reference, two seeds, and an earlier step that must not count."""
    keys = {WEIGHT: weights, **({RATE: rates} if rates else {})}
    points, rows = [["small", "joint", "joint", {}]], []

    def add(recipe: str, method: str, found: dict[str, list[float]]) -> None:
        for group, values in found.items():
            for seed, one in enumerate(values):
                for step, shown in ((0, 99.0), (2, one)):
                    identity = ("toy", "semantic", "4-2", "overlapped", recipe, method, seed, step, "segue")
                    rows.append((*identity, group, "mIoU", shown))

    add("small", "joint", {group: [60.0, 62.0] for group in ("old", "new", "all")})
    for weight in weights:
        for rate in rates or [0.1]:
            recipe = f"small@{rate}" if rates else "small"
            values = {WEIGHT: weight, **({RATE: rate} if rates else {})}
            points.append([recipe, f"mib@{weight}", "mib", values])
            add(
                recipe, f"mib@{weight}", {g: [value(weight, rate, g, s) for s in (0, 1)] for g in ("old", "new", "all")}
            )
    return {**SPEC, "keys": keys, "points": points}, pd.DataFrame(rows, columns=list(METRIC_COLUMNS))


def test_the_combination_with_the_highest_mean_of_all_classes_is_chosen_and_no_reference():
    spec, metrics = swept([1, 10, 100], [0.01, 0.1])
    rows = sweep_rows(metrics, spec)
    chosen = rows[rows["chosen"] == 1]
    assert set(zip(chosen["weight"], chosen["optimiser.learning_rate"], strict=True)) == {("10", "0.1")}
    assert set(chosen["group"]) == {"old", "new", "all"} and set(chosen["method"]) == {"mib"}


def test_values_are_those_after_the_last_step_over_seeds():
    spec, metrics = swept([1, 10])
    rows = sweep_rows(metrics, spec)
    row = rows[(rows["weight"] == "10") & (rows["group"] == "all")].iloc[0]
    assert row["mean"] == pytest.approx(42.5) and row["std"] == pytest.approx(np.sqrt(0.5)) and row["seeds"] == 2
    assert row["run"] == "mib@10" and row["recipe"] == "small"


def test_a_combination_without_results_is_an_error_and_not_left_out():
    spec, metrics = swept([1, 10])
    with pytest.raises(SweepError, match="no results of 'mib@10' with recipe 'small'"):
        sweep_rows(metrics[metrics["method"] != "mib@10"], spec)


def test_results_of_another_setting_do_not_count():
    spec, metrics = swept([1, 10])
    other = metrics.assign(setting="disjoint", value=99.0)
    pd.testing.assert_frame_equal(sweep_rows(pd.concat([metrics, other]), spec), sweep_rows(metrics, spec))


def test_the_table_has_a_row_per_combination_and_marks_the_best_of_each_column():
    spec, metrics = swept([1, 10, 100])
    (table,) = sweep_tables(sweep_rows(metrics, spec), spec)
    assert [(row.label, row.cells[0].text) for row in table.rows] == [
        ("joint", "–"), ("mib", "1"), ("mib", "10"), ("mib", "100")
    ]  # fmt: skip
    assert [row.cells[-1].text for row in table.rows] == ["", "", "chosen", ""]
    old, new, everything = ([row.cells[place].rank for row in table.rows] for place in (1, 2, 3))
    assert (old, new, everything) == ([0, 0, 2, 1], [0, 1, 2, 0], [0, 2, 1, 2])  # equal means share a rank


@pytest.mark.parametrize(
    ("weights", "scale"),
    [([1, 10, 100], "log"), ([0, 1, 10], "symlog"), ([1, 2, 4], "linear"), ([0.5], "linear")],
)
def test_the_axis_is_logarithmic_where_values_span_a_decade(weights: list[float], scale: str):
    keys = {WEIGHT: weights}
    spec, metrics = swept([w or 0.1 for w in weights])
    points = [
        [r, m, b, {WEIGHT: w} if v else {}] for (r, m, b, v), w in zip(spec["points"], [0, *weights], strict=True)
    ]
    figure = sweep_figure(
        sweep_rows(metrics, {**spec, "keys": keys, "points": points}), {**spec, "keys": keys, "points": points}
    )
    panels = [panel for panel in figure.axes if panel.get_title()]
    assert {panel.get_xscale() for panel in panels} == {scale}
    assert [panel.get_title() for panel in panels] == ["old classes", "new classes", "all classes"]
    assert [label.get_text() for label in panels[0].get_xticklabels()] == [str(w) for w in weights]


def test_the_figure_shows_means_of_every_line_and_a_ring_at_the_chosen_one():
    spec, metrics = swept([1, 10, 100], [0.01, 0.1])
    panel = sweep_figure(sweep_rows(metrics, spec), spec).axes[2]
    drawn = [line.get_xydata() for line in panel.get_lines()]
    expected = [[w, value(w, 0.1, "all", 0) + 0.5] for w in (1, 10, 100)]
    assert any(np.allclose(points, expected) for points in drawn if points.shape == (3, 2))
    (ring,) = (line for line in panel.get_lines() if line.get_markersize() == 13 and len(line.get_xydata()))
    np.testing.assert_allclose(ring.get_xydata(), [[10, 42.5]])
    labels = [text.get_text() for text in panel.get_legend().get_texts()]
    assert labels == [
        "optimiser.learning_rate 0.01",
        "optimiser.learning_rate 0.1",
        "joint",
        "chosen: highest mean of all classes",
    ]


def test_texts_and_switches_stand_beside_each_other():
    spec, metrics = swept([1, 10])
    values = {1: "poly", 10: "constant"}
    points = [[r, m, b, {WEIGHT: values[v[WEIGHT]]} if v else {}] for r, m, b, v in spec["points"]]
    spec = {**spec, "keys": {WEIGHT: ["poly", "constant"]}, "points": points}
    panel = sweep_figure(sweep_rows(metrics, spec), spec).axes[0]
    assert [label.get_text() for label in panel.get_xticklabels()] == ["poly", "constant"]
    assert panel.get_xscale() == "linear"
