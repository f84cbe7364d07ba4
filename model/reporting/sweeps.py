"""The table of a sweep: what each combination of values gives after the last step, and which of them is chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from model.config.sweeps import value_text
from model.reporting.bounds import method_order
from model.reporting.printed import MISSING, Cell, Rank, Row, Table
from model.reporting.records import PRIMARY_METRIC

GROUPS = ("old", "new", "all")
CHOICE = "all"
"""The group whose mean over seeds decides."""
_BEFORE = ("dataset", "task", "scenario", "setting", "protocol", "method")
_AFTER = ("recipe", "run", "group", "metric", "mean", "std", "seeds", "chosen")
_WHERE = ("dataset", "task", "scenario", "setting")


class SweepError(ValueError):
    """Results in which runs of a sweep are missing."""


def key_title(key: str) -> str:
    """A key without the prefix that says what it changes."""
    return key.partition(".")[2]


def sweep_rows(metrics: pd.DataFrame, spec: Mapping[str, Any]) -> pd.DataFrame:
    """One row per protocol, combination and group: mean and sample standard deviation over seeds after the last step.

    Args:
        metrics: from :func:`model.reporting.tables.metric_rows`.
        spec: of a :class:`model.workflow.sweeps.Sweep`.

    Returns:
        ``method`` is the name without values, a column per key holds them as text (empty where a key does not concern the
        method), ``run`` is the method's name in other tables. ``chosen`` is 1 for the combination of each method with the
        highest mean of all classes under the protocol, the first one where several have it.

    Raises:
        SweepError: if a combination has no results.
    """
    task, keys = spec["task"], list(spec["keys"])
    own = metrics[(metrics["metric"] == PRIMARY_METRIC[task]) & metrics["group"].isin(GROUPS)]
    for column in _WHERE:
        own = own[own[column] == spec[column]]
    rows = []
    for protocol in spec["protocols"]:
        for recipe, run, base, values in spec["points"]:
            part = own[(own["protocol"] == protocol) & (own["recipe"] == recipe) & (own["method"] == run)]
            part = part[part["step"] == part["step"].max()]
            if part.empty:
                raise SweepError(f"there are no results of '{run}' with recipe '{recipe}': run the workflow again")
            texts = [value_text(values[key]) if key in values else "" for key in keys]
            for group in GROUPS:
                seeds = part[part["group"] == group]["value"]
                if len(seeds):
                    found = (group, PRIMARY_METRIC[task], seeds.mean(), seeds.std(ddof=1), len(seeds), 0)
                    rows.append((*(spec[c] for c in _WHERE), protocol, base, *texts, recipe, run, *found))
    frame = pd.DataFrame(rows, columns=[*_BEFORE, *map(key_title, keys), *_AFTER])
    swept = {base for _, _, base, values in spec["points"] if values}
    decisive = frame[(frame["group"] == CHOICE) & frame["method"].isin(swept)]
    for (protocol, _), part in decisive.groupby(["protocol", "method"], sort=False):
        best = max(part.to_dict("records"), key=lambda row: row["mean"])
        same = (frame["protocol"] == protocol) & (frame["recipe"] == best["recipe"]) & (frame["run"] == best["run"])
        frame.loc[same, "chosen"] = 1
    return frame


def sweep_tables(rows: pd.DataFrame, spec: Mapping[str, Any]) -> list[Table]:
    """A table per protocol, a row per combination; best and second best of each method are marked.

    Args:
        rows: from :func:`sweep_rows`.
        spec: of the same sweep.
    """
    keys = [key_title(key) for key in spec["keys"]]
    tables = []
    for protocol, part in rows.groupby("protocol", sort=False):
        metric = part["metric"].iloc[0]
        groups = [group for group in GROUPS if group in set(part["group"])]
        printed = []
        for method in method_order(part["method"]):
            own = part[part["method"] == method]
            ranks = {group: _ranks(own[own["group"] == group]) for group in groups}
            for (recipe, run), cells in own.groupby(["recipe", "run"], sort=False):
                by_group = {row["group"]: row for row in cells.to_dict("records")}
                first = next(iter(by_group.values()))
                values = [Cell(first[key] or MISSING) for key in keys]
                for group in groups:
                    values.append(
                        Cell(_text(by_group[group]), ranks[group].get((str(recipe), str(run)), 0))
                        if group in by_group
                        else Cell()
                    )
                printed.append(Row(str(method), (*values, Cell("chosen" if first["chosen"] else ""))))
        head = (*(("", key) for key in keys), *((f"{metric}", group) for group in groups), ("", ""))
        seeds = part["seeds"].max()
        spread = f", mean ± standard deviation over up to {seeds} seeds" if seeds > 1 else ", one seed"
        title = f"{', '.join(str(spec[c]) for c in _WHERE[:3])} {spec['setting']}, recipe {spec['recipe']}, protocol {protocol}"
        note = f"{metric} in percent after the last step{spread}"
        tables.append(Table(title, "method", head, tuple(printed), note=note))
    return tables


def sweep_lead(spec: Mapping[str, Any]) -> str:
    """What a page with tables of a sweep says first."""
    names = " and ".join(map(key_title, spec["keys"]))
    where = (
        "Chosen on validation images, which no step trained on; not comparable with results on other images."
        if spec["images"] == "validation"
        else "Chosen on the images that results are reported on, which favours the chosen one: `validation` holds training "
        "images out for the choice."
    )
    return (
        f"All combinations of {names}. The chosen one has the highest mean of all classes; best and second best of each "
        f"method are marked. {where}"
    )


def _text(row: Mapping[Any, Any]) -> str:
    spread = f" ± {row['std']:.2f}" if row["seeds"] > 1 else ""
    return f"{row['mean']:.2f}{spread}"


def _ranks(rows: pd.DataFrame) -> dict[tuple[str, str], Rank]:
    """The best and the second best of several combinations; nothing to rank where there is one."""
    if len(rows) < 2:
        return {}
    ordered: Sequence[float] = sorted(set(rows["mean"].round(2)), reverse=True)[:2]
    places: dict[float, Rank] = dict(zip(ordered, (1, 2), strict=False))
    return {
        (row["recipe"], row["run"]): places[value]
        for row in rows.to_dict("records")
        if (value := round(row["mean"], 2)) in places
    }
