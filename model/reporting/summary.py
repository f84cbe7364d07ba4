"""What people read first: method × scenario after the last step, mean ± deviation over seeds, beside published numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from model.reporting.bounds import method_order
from model.reporting.published import PublishedResults
from model.reporting.records import PRIMARY_METRIC
from model.reporting.verdicts import Origin, verdict

SHOWN_GROUPS = ("old", "new", "all")
AVERAGE = "avg"
"""Head of the column with the mean over steps of the value of all classes."""

SHOWN = {**{group: (group, "{}") for group in SHOWN_GROUPS}, AVERAGE: ("all", "{}_avg")}
"""Columns of the summary → group and metric, where ``{}`` stands for the task's primary metric."""

PRINTED = {**SHOWN, "current": ("current", "{}"), "hIoU": ("all", "hIoU")}
"""The same for everything that some published table has."""

SECTION = ("dataset", "task", "setting", "recipe", "protocol")
SUMMARY_COLUMNS = (
    *SECTION, "scenario", "method", "group", "metric", "mean", "std", "seeds",
    "published", "provenance", "paper", "published_protocol", "note", "kept", "difference", "verdict",
    "steps", "released", "published_as",
)  # fmt: skip


def column_of(task: str, group: str, metric: str, columns: Mapping[str, tuple[str, str]] = PRINTED) -> str | None:
    """Which of some columns a group and metric belong to; None for none of them."""
    primary = PRIMARY_METRIC[task]
    for name, (wanted, pattern) in columns.items():
        if (group, metric) == (wanted, pattern.format(primary)):
            return name
    return None


def summarise(
    metrics: pd.DataFrame,
    published: PublishedResults,
    notes: Mapping[tuple[str, str, str], str] | None = None,
    kept: Mapping[tuple[object, ...], str] | None = None,
    released: Mapping[tuple[str, ...], tuple[str, bool]] | None = None,
    columns: Mapping[str, tuple[str, str]] = SHOWN,
    names: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """One row per section, scenario, method and column: mean and sample standard deviation over seeds at the last step.

    Args:
        metrics: from :func:`model.reporting.tables.metric_rows`.
        published: shown where dataset, task, scenario, setting and method match, whatever the protocol.
        notes: (dataset, task, recipe) → remark, such as "from scratch, not comparable".
        kept: (dataset, task, scenario, setting, recipe, method, seed) → what was accepted of a run that is not altogether as
            configured (:func:`model.reporting.verification.kept_runs`).
        released: (dataset, task, setting, recipe, scenario, row) → method whose released weights the row evaluates, and whether
            after the last step, which published numbers are about (:func:`model.reporting.collect.released_rows`).
        columns: which groups and metrics.
        names: row → method whose published numbers are about the same, where the two differ.

    Returns:
        Columns :data:`SUMMARY_COLUMNS`; ``std`` is NaN for a single seed, ``published`` where there is no such number.
        ``difference`` and ``verdict`` compare with the published number (:mod:`model.reporting.verdicts`); ``steps`` is the
        number of steps, ``released`` 1 for released weights, ``published_as`` the method whose published numbers are about the
        same: empty for released weights of an earlier step.
    """
    chosen = [
        column_of(task, group, metric, columns)
        for task, group, metric in zip(metrics["task"], metrics["group"], metrics["metric"], strict=True)
    ]
    wanted = metrics[[column is not None for column in chosen]]
    if wanted.empty:
        return pd.DataFrame(columns=list(SUMMARY_COLUMNS))
    last = wanted.groupby([*SECTION, "scenario", "method", "seed"])["step"].transform("max")
    wanted = wanted[wanted["step"] == last]
    accepted: dict[tuple[object, ...], dict[str, None]] = {}
    for run, text in (kept or {}).items():
        accepted.setdefault(run[:-1], {})[text] = None  # of any seed
    rows = []
    for key, part in wanted.groupby([*SECTION, "scenario", "method", "group", "metric"]):
        dataset, task, setting, recipe, protocol, scenario, method, group, metric = map(str, key)
        values = part["value"]
        texts = accepted.get((dataset, task, scenario, setting, recipe, method), {})
        own, final = (released or {}).get((dataset, task, setting, recipe, scenario, method), ("", True))
        name = own or (names or {}).get(method, method)
        numbers = published.find(dataset, task, scenario, setting, name, metric, protocol) if final else {}
        number = numbers.get(group)
        origin = Origin(bool(own), scenario, int(part["step"].max()) + 1, len(values), protocol)
        difference, words = verdict(float(values.mean()), number, origin)
        rows.append(
            {
                **dict(zip(SECTION, (dataset, task, setting, recipe, protocol), strict=True)),
                "scenario": scenario,
                "method": method,
                "group": group,
                "metric": metric,
                "mean": float(values.mean()),
                "std": float(values.std(ddof=1)) if len(values) > 1 else float("nan"),
                "seeds": len(values),
                "published": number.value if number else float("nan"),
                "provenance": number.provenance if number else "",
                "paper": number.paper if number else "",
                "published_protocol": number.protocol if number else "",
                "note": (notes or {}).get((dataset, task, recipe), ""),
                "kept": "; ".join(texts),
                "difference": difference,
                "verdict": words,
                "steps": origin.steps,
                "released": int(origin.released),
                "published_as": name if final else "",
            }
        )
    return _sorted(pd.DataFrame(rows, columns=list(SUMMARY_COLUMNS)), columns)


def _sorted(frame: pd.DataFrame, columns: Mapping[str, tuple[str, str]]) -> pd.DataFrame:
    places: Sequence[str] = list(columns)
    methods = {name: place for place, name in enumerate(method_order(frame["method"]))}
    column = [
        places.index(str(column_of(task, group, metric, columns)))
        for task, group, metric in zip(frame["task"], frame["group"], frame["metric"], strict=True)
    ]
    ordered = frame.assign(_method=frame["method"].map(methods), _column=column)
    keys = [*SECTION, "scenario", "_method", "_column"]
    return ordered.sort_values(keys, ignore_index=True, kind="stable").drop(columns=["_method", "_column"])
