"""What the charts of the site show, as plain data; ``site.js`` hands them to Plotly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from model.evaluation.metrics.scores import BACKGROUND, GROUPS
from model.reporting.bounds import method_order
from model.reporting.figures import COMPARISON
from model.reporting.records import CLASS_METRIC, PRIMARY_METRIC
from model.reporting.styles import Style

SYMBOLS = {
    "o": "circle",
    "s": "square",
    "^": "triangle-up",
    "D": "diamond",
    "v": "triangle-down",
    "P": "cross",
    "X": "x",
}
SYMBOLS |= {"_": "line-ew-open", "|": "line-ns-open", ".": "circle-dot"}
DASHES = {"-": "solid", "--": "dash", ":": "dot", "-.": "dashdot"}


def title_of(key: tuple[str, ...]) -> str:
    """A comparison in words."""
    dataset, task, scenario, setting, recipe, protocol = key
    return f"{dataset}, {task}, {scenario} {setting}, {recipe}, protocol {protocol}"


def charts(metrics: pd.DataFrame, per_class: pd.DataFrame, styles: Mapping[str, Style]) -> list[dict[str, Any]]:
    """Curves over steps by group and metric, and by class, for every comparison.

    Args:
        metrics, per_class: of the tables.
        styles: from :func:`model.reporting.styles.method_styles`.

    Returns:
        One entry per comparison: title, metrics, groups, looks of the methods, ``curves`` (metric → group → method → line) and
        ``of_classes`` (class → method → line); a line has steps, mean and standard deviation over seeds.
    """
    found = []
    for key, rows in metrics.groupby(list(COMPARISON), sort=True):
        names = tuple(map(str, key))
        task = names[1]
        own = per_class[(per_class[list(COMPARISON)] == list(key)).all(axis=1)]
        of_metric = own[(own["metric"] == CLASS_METRIC[task]) & (own["class"] != BACKGROUND)]
        usual = PRIMARY_METRIC[task]
        of_steps = rows.groupby("metric")["step"].nunique()
        known = [usual, *sorted(set(of_steps[of_steps > 1].index) - {usual})]
        found.append(
            {
                "title": title_of(names),
                "metrics": known,
                "class_metric": CLASS_METRIC[task],
                "styles": {m: _look(styles[m]) for m in method_order(rows["method"])},
                "groups": [g for g in GROUPS if g in set(rows["group"])],
                "curves": {
                    metric: {
                        str(group): _lines(part) for group, part in rows[rows["metric"] == metric].groupby("group")
                    }
                    for metric in known
                },
                "of_classes": {
                    str(name): _lines(part)
                    for name, part in sorted(of_metric.groupby("class"), key=lambda item: _first(item[1]))
                },
            }
        )
    return found


def _first(rows: pd.DataFrame) -> tuple[int, str]:
    own = rows[rows["step"] < rows["step"].max()]  # the upper bound has values at the last step only
    return int((own if len(own) else rows)["step"].min()), str(rows["class"].iloc[0])


def _look(style: Style) -> dict[str, str]:
    return {"color": style.color, "symbol": SYMBOLS[style.marker], "dash": DASHES[style.line]}


def _lines(rows: pd.DataFrame) -> dict[str, dict[str, Any]]:
    lines = {}
    for method in method_order(rows["method"]):
        seeds = rows[rows["method"] == method].groupby("step")["value"]
        lines[method] = {
            "steps": [int(step) for step in seeds.mean().index],
            "mean": [round(float(value), 4) for value in seeds.mean()],
            "std": [round(float(value), 4) for value in seeds.std(ddof=1).fillna(0)],
        }
    return lines
