"""The summary as tables: per dataset, task, setting, recipe and protocol the values, then verdicts and costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from model.common.files import write_text
from model.reporting.bounds import is_upper_bound, method_order
from model.reporting.escaping import csv_cells
from model.reporting.orders import order_rows, order_tables
from model.reporting.printed import MISSING, Cell, Row, Table, natural, ranks
from model.reporting.published import PROVENANCE
from model.reporting.records import PRIMARY_METRIC
from model.reporting.summary import AVERAGE, SECTION, SHOWN, column_of
from model.reporting.table_formats import MARKS, html_table, html_tables, latex_tables, markdown_tables

KEPT = "†"
"""Marks results that were accepted with other code or another configuration than they were made with."""
KEPT_MEANS = f"{KEPT} made with other code or another configuration, and accepted as it is (`make keep`)"

TITLE = "Results"
LEAD = (
    "Mean ± sample standard deviation over seeds (n = number of seeds), in percent, after the last step; avg = mean over steps "
    f"of the value of all classes. {MARKS[0].upper()}{MARKS[1:]}; the upper bound does not compete."
)
_PRINTED = "published old/new/all"

_Cells = Mapping[tuple[str, str, str], Mapping[Any, Any]]


def markdown(summary: pd.DataFrame, costs: pd.DataFrame | None = None) -> str:
    """The summary as one Markdown page."""
    return markdown_tables(TITLE, LEAD, summary_tables(summary, costs))


def html(summary: pd.DataFrame, costs: pd.DataFrame | None = None) -> str:
    """The summary as one HTML page."""
    return html_tables(TITLE, LEAD, summary_tables(summary, costs))


def latex(summary: pd.DataFrame, costs: pd.DataFrame | None = None) -> str:
    """The summary as LaTeX tables."""
    return latex_tables(summary_tables(summary, costs))


def headline(summary: pd.DataFrame) -> str:
    """The result in brief, as a part of an HTML page: means after the last step, a table per section."""
    parts = ["<p>Mean over seeds after the last step, in percent. More under <em>Tables</em>.</p>"]
    for key, part in summary[~summary["metric"].str.endswith("_avg")].groupby(list(SECTION), sort=True):
        dataset, task, setting, recipe, protocol = map(str, key)
        methods, scenarios = method_order(part["method"]), sorted(part["scenario"].unique(), key=natural)
        cells = {(r["scenario"], r["method"], r["group"]): r for r in part.to_dict("records")}
        head = [(scenario, group) for scenario in scenarios for group in SHOWN if group != AVERAGE]
        columns = []
        for scenario, group in head:
            found = [cells.get((scenario, method, group)) for method in methods]
            competing = [None if row is None or is_upper_bound(row["method"]) else row["mean"] for row in found]
            columns.append(
                [
                    Cell() if row is None else Cell(f"{row['mean']:.1f}", rank)
                    for row, rank in zip(found, ranks(competing, 1), strict=True)
                ]
            )
        rows = tuple(Row(method, tuple(column[index] for column in columns)) for index, method in enumerate(methods))
        title = f"{dataset}, {task} ({PRIMARY_METRIC[task]}), {setting}, {recipe}, protocol {protocol}"
        parts.append(html_table(Table(title, "method", tuple(head), rows, minor=True)))
    return "\n".join(parts) + "\n"


def write_summary(summary: pd.DataFrame, folder: Path, costs: pd.DataFrame | None = None) -> tuple[Path, ...]:
    """Write ``summary.md``, ``summary.csv``, ``summary.tex``, ``summary.html`` and ``headline.html``, a part of a page."""
    paths = (*(folder / f"summary.{suffix}" for suffix in ("md", "csv", "tex", "html")), folder / "headline.html")
    table = csv_cells(summary).to_csv(index=False, float_format="%.6f", lineterminator="\n")
    texts = markdown(summary, costs), table, latex(summary, costs), html(summary, costs), headline(summary)
    for path, text in zip(paths, texts, strict=True):
        write_text(path, text)
    return paths


def summary_tables(summary: pd.DataFrame, costs: pd.DataFrame | None = None) -> list[Table]:
    """The tables of every section, in order, then those over class orders.

    Args:
        summary: from :func:`model.reporting.summary.summarise`.
        costs: from :func:`model.reporting.costs.cost_rows`; left out without.
    """
    tables = []
    for key, part in summary.groupby(list(SECTION), sort=True):
        dataset, task, setting, recipe, protocol = map(str, key)
        tables.append(
            _values(part, f"{dataset}, {task} ({PRIMARY_METRIC[task]}), {setting}, recipe {recipe}", protocol)
        )
        if any(part["verdict"] != ""):
            tables.append(_verdicts(part))
        if costs is not None:
            wanted = {"dataset": dataset, "task": task, "setting": setting, "recipe": recipe}
            own = costs[(costs[list(wanted)] == list(wanted.values())).all(axis=1)]
            if not own.empty:
                tables.append(_costs(own))
    return [*tables, *order_tables(order_rows(summary))]


def _values(part: pd.DataFrame, title: str, protocol: str) -> Table:
    """One table: rows are methods; each scenario has a column per group, the mean over steps, and published numbers."""
    task, methods = str(part["task"].iloc[0]), method_order(part["method"])
    cells: _Cells = {
        (r["scenario"], r["method"], str(column_of(task, r["group"], r["metric"]))): r for r in part.to_dict("records")
    }
    head: list[tuple[str, str]] = []
    columns: list[list[Cell]] = []
    for scenario in sorted(part["scenario"].unique(), key=natural):
        for column in SHOWN:
            found = [cells.get((scenario, method, column)) for method in methods]
            if column == AVERAGE and not any(found):
                continue
            head.append((scenario, column))
            columns.append(value_cells(found))
        printed = [_published([cells.get((scenario, m, c)) for c in SHOWN if c != AVERAGE], protocol) for m in methods]
        if any(printed):
            head.append((scenario, _PRINTED))
            columns.append([Cell(text or MISSING) for text in printed])
    rows = tuple(Row(method, tuple(c[index] for c in columns)) for index, method in enumerate(methods))
    note = next((note for note in part["note"] if note), "")
    return Table(f"{title}, protocol {protocol}", "method", tuple(head), rows, note, _footnotes(part, protocol))


def value_cells(found: Sequence[Mapping[Any, Any] | None]) -> list[Cell]:
    """``56.70 ± 0.98 (n=3)`` for each row of the summary, with its rank among them."""
    competing = [None if row is None or is_upper_bound(row["method"]) else row["mean"] for row in found]
    return [
        Cell() if row is None else Cell(value_text(row), rank)
        for row, rank in zip(found, ranks(competing), strict=True)
    ]


def value_text(row: Mapping[Any, Any]) -> str:
    """Mean, deviation where there are several seeds, and number of seeds."""
    mean, std, seeds = row["mean"], row["std"], row["seeds"]
    return f"{mean:.2f}" + (f" ± {std:.2f}" if std == std else "") + KEPT * bool(row["kept"]) + f" (n={seeds})"


def _footnotes(part: pd.DataFrame, protocol: str) -> tuple[str, ...]:
    texts = []
    numbers = part[(part["paper"] != "") & ~part["metric"].str.endswith("_avg")]
    if not numbers.empty:
        papers = sorted({f"{r.method}: {r.paper} (protocol: {r.published_protocol})" for r in numbers.itertuples()})
        if (numbers["published_protocol"] != protocol).any():
            papers.append("* = evaluated under another protocol than this table's")
        papers += [f"{letter} = {PROVENANCE[letter]}" for letter in PROVENANCE if letter in set(numbers["provenance"])]
        texts.append("Published: " + "; ".join(papers))
    kept = dict.fromkeys(f"{r['method']} ({r['kept']})" for r in part.to_dict("records") if r["kept"])
    if kept:
        texts.append(f"{KEPT_MEANS}: {'; '.join(kept)}")
    return tuple(texts)


def _verdicts(part: pd.DataFrame) -> Table:
    """Values beside the published ones: difference, and whether it is within the band of its kind."""
    columns = ("scenario", "classes", "here", "published", "difference", "verdict")
    rows = []
    for row in part[part["verdict"] != ""].to_dict("records"):
        known = row["paper"] != ""
        numbers = (
            (f"{row['published']:.2f} ({row['provenance']})", f"{row['difference']:+.2f}") if known else (MISSING,) * 2
        )
        column = str(column_of(row["task"], row["group"], row["metric"]))
        texts = (row["scenario"], column, f"{row['mean']:.2f}", *numbers, row["verdict"])
        rows.append(Row(row["method"], tuple(map(Cell, texts))))
    return Table("Beside published numbers", "method", tuple(("", name) for name in columns), tuple(rows), minor=True)


def _costs(costs: pd.DataFrame) -> Table:
    """What a run of each method costs, mean over seeds."""
    columns = ("scenario", "trained parameters", "exemplars", "method's state", "time", "peak memory")
    rows = []
    for scenario in sorted(costs["scenario"].unique(), key=natural):
        of_scenario = costs[costs["scenario"] == scenario]
        for method in method_order(of_scenario["method"]):
            own = of_scenario[of_scenario["method"] == method]
            mean = own.select_dtypes("number").mean()
            replayed = f"{mean['exemplars']:.0f} images, {size(mean['exemplar_bytes'])}" if mean["exemplars"] else ""
            parameters = f"{mean['trainable_parameters']:,.0f} of {mean['parameters']:,.0f}"
            seconds = mean["base_seconds"] if is_upper_bound(method) else mean["seconds"]
            on_gpu = (own["peak_gpu_bytes"] > 0).all()
            memory = f"{size(mean['peak_gpu_bytes'])} on the GPU" if on_gpu else size(mean["peak_resident_bytes"])
            stored = size(mean["state_bytes"]) if mean["state_bytes"] else ""
            texts = scenario, parameters, replayed, stored, f"{duration(seconds)} {'GPU' if on_gpu else 'CPU'}", memory
            rows.append(Row(method, tuple(Cell(text or MISSING) for text in texts)))
    footnote = "Time: wall clock of the increments, or of the only training of the upper bound, mean over seeds"
    head = tuple(("", name) for name in columns)
    return Table("Costs", "method", head, tuple(rows), footnotes=(footnote,), minor=True)


def size(count: float) -> str:
    """Bytes in the unit that suits them."""
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count:.0f} B"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, whichever suits."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _published(rows: Sequence[Mapping[Any, Any] | None], protocol: str) -> str:
    """``35.1/13.5/29.7 (V)``; a star marks numbers evaluated under another protocol than the table's."""
    found = [row if row is not None and row["paper"] else None for row in rows]
    numbers = [row for row in found if row is not None]
    if not numbers:
        return ""
    text = "/".join(f"{row['published']:.1f}" if row else MISSING for row in found)
    letters = "".join(dict.fromkeys(row["provenance"] for row in numbers))
    star = "" if all(row["published_protocol"] == protocol for row in numbers) else "*"
    return f"{text}{star} ({letters})"
