"""Tidy tables: one row per value, in percent, sorted; equal results give equal bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

import pandas as pd

from model.common.files import write_text
from model.evaluation.metrics.forgetting import average_over_steps, class_forgetting, mean_forgetting, require_steps
from model.evaluation.metrics.scores import BACKGROUND, GROUPS
from model.evaluation.metrics.transfer import Values, backward_transfer, intransigence
from model.reporting.bounds import UPPER_BOUND, is_upper_bound
from model.reporting.escaping import csv_cells, plain_text
from model.reporting.records import CLASS_METRIC, PRIMARY_METRIC, Measurement

IDENTITY = ("dataset", "task", "scenario", "setting", "recipe", "method", "seed", "step", "protocol")
METRIC_COLUMNS = (*IDENTITY, "group", "metric", "value")
CLASS_COLUMNS = (*IDENTITY, "group", "class", "metric", "value")
DECIMALS = 6


def metric_rows(measurements: Iterable[Measurement]) -> pd.DataFrame:
    """Values by group: those measured after every step, and those computed from all steps of a run.

    The upper bound has values at every step, all of one network. The latter, listed at the last step, are ``<metric>_avg`` (group
    ``all``: mean over steps, PLOP's "avg"), ``forgetting`` (every group: mean over its classes of the best earlier value minus
    the last one), ``backward_transfer`` and, where the upper bound was run with the same seed, ``intransigence``.

    Raises:
        StepsError: if a run with several steps lacks one of them.
    """
    rows = []
    measurements = list(measurements)
    bounds = _upper_bounds(measurements)
    for run, steps in _by_run(measurements):
        for m in steps:
            rows += [
                (*_identity(m), group, metric, value)
                for group, values in m.scores.groups.items()
                for metric, value in values.items()
            ]
        last = steps[-1]
        own = [m for m in steps if not m.known_later]
        rows += [(*_identity(last), *row) for row in _over_steps(own, run, bounds.get(_bound_key(last), {}))]
    return _frame(rows, METRIC_COLUMNS)


def class_rows(measurements: Iterable[Measurement]) -> pd.DataFrame:
    """Values by class: ``class`` is its name, ``group`` the one it belongs to after this step (``past`` or ``current``).

    Classes that do not occur in the evaluated images have no row. Forgetting per class is listed at the last step.
    """
    rows = []
    for run, steps in _by_run(m for m in measurements if not m.known_later):
        for m in steps:
            rows += [
                (*_identity(m), _group_of(m, key), m.names.get(key, key), metric, value)
                for metric, values in m.scores.classes.items()
                for key, value in values.items()
                if value is not None
            ]
        last = steps[-1]
        rows += [
            (*_identity(last), _group_of(last, key), last.names.get(key, key), "forgetting", value)
            for key, value in _class_forgetting(steps, run).items()
        ]
    return _frame(rows, CLASS_COLUMNS)


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write a table with fixed decimals."""
    write_text(path, csv_cells(frame).to_csv(index=False, float_format=f"%.{DECIMALS}f", lineterminator="\n"))


def read_csv(source: Path | BinaryIO) -> pd.DataFrame:
    """Read a table written by :func:`write_csv`; names such as ``NA`` or ``none`` stay text."""
    text = {name: str for name in CLASS_COLUMNS if name not in ("seed", "step", "value")}
    frame = pd.read_csv(source, dtype=text, keep_default_na=False, na_values={"value": [""]})
    return frame.map(lambda cell: plain_text(cell) if isinstance(cell, str) else cell)


def _over_steps(steps: Sequence[Measurement], run: str, bound: Values) -> list[tuple[str, str, float]]:
    if len(steps) == 1:  # a single training on all classes has nothing to forget
        return []
    require_steps([m.step for m in steps], run)
    last = steps[-1]
    metric = PRIMARY_METRIC[last.run.task]
    rows: list[tuple[str, str, float]] = []
    values = [value for m in steps if (value := m.scores.groups.get("all", {}).get(metric)) is not None]
    if len(values) == len(steps):
        rows.append(("all", f"{metric}_avg", average_over_steps(values)))
    of_steps = [m.scores.classes.get(CLASS_METRIC[last.run.task], {}) for m in steps]
    learnt_in = {str(category): m.step for m in steps for category in m.groups.get("current", ())}
    of_classes = {
        "forgetting": class_forgetting(of_steps),
        "backward_transfer": backward_transfer(of_steps, learnt_in),
        "intransigence": intransigence(of_steps, learnt_in, bound),
    }
    for name, found in of_classes.items():
        for group in GROUPS:
            mean = mean_forgetting(found, [str(category) for category in last.groups.get(group, ())])
            if mean is not None:
                rows.append((group, name, mean))
    return rows


def _upper_bounds(measurements: Iterable[Measurement]) -> dict[tuple[object, ...], Values]:
    """Values by class of the upper bounds, by what a run has to share with one."""
    found: dict[tuple[object, ...], Values] = {}
    for m in measurements:
        if is_upper_bound(m.run.method) and not m.known_later:
            values = m.scores.classes.get(CLASS_METRIC[m.run.task], {})
            if m.run.method == UPPER_BOUND:  # where there are several, the one of that name
                found[_bound_key(m)] = values
            else:
                found.setdefault(_bound_key(m), values)
    return found


def _bound_key(m: Measurement) -> tuple[object, ...]:
    r = m.run
    return r.dataset, r.task, r.scenario, r.setting, r.recipe, r.seed, m.protocol


def _class_forgetting(steps: Sequence[Measurement], run: str) -> dict[str, float]:
    if len(steps) == 1:
        return {}
    require_steps([m.step for m in steps], run)
    metric = CLASS_METRIC[steps[-1].run.task]
    return class_forgetting([m.scores.classes.get(metric, {}) for m in steps])


def _by_run(measurements: Iterable[Measurement]) -> Iterable[tuple[str, list[Measurement]]]:
    ordered = sorted(measurements, key=lambda m: (m.run, m.protocol, m.step))
    for (run, protocol), steps in groupby(ordered, key=lambda m: (m.run, m.protocol)):
        yield f"{run} ({protocol})", list(steps)


def _identity(m: Measurement) -> tuple[object, ...]:
    r = m.run
    return r.dataset, r.task, r.scenario, r.setting, r.recipe, r.method, r.seed, m.step, m.protocol


def _group_of(m: Measurement, key: str) -> str:
    if key == BACKGROUND:
        return "past" if m.groups.get("past") else "current"
    return "current" if int(key) in m.groups.get("current", ()) else "past"


def _frame(rows: Sequence[tuple[object, ...]], columns: Sequence[str]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=list(columns))
    order = {name: position for position, name in enumerate(GROUPS)}
    keys = [name for name in columns if name != "value"]
    return frame.sort_values(
        keys, key=lambda column: column.map(order) if column.name == "group" else column, ignore_index=True
    )
