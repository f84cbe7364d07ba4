"""The tables of the papers, from ``config/published_results.csv`` alone or with results of ours beside each row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from model.common.files import write_text
from model.reporting.bounds import is_upper_bound
from model.reporting.printed import MISSING, Cell, Rank, Row, Table, natural, ranks
from model.reporting.published import PROVENANCE, PublishedResults, PublishedTable, PublishedValue
from model.reporting.records import PRIMARY_METRIC
from model.reporting.summary import PRINTED, column_of
from model.reporting.summary_tables import value_text
from model.reporting.table_formats import MARKS, html_tables, latex_tables, markdown_tables
from model.reporting.verdicts import Origin, verdict

TITLE = "Published tables"
ALONE = (
    "Every published number that Segue knows, in percent after the last step, in the order of the papers. A letter tells where "
    f"a number was read; a table without letters has one kind only. {MARKS[0].upper()}{MARKS[1:]}."
)
BESIDE = (
    "The published tables of what was run here. Below a method of a paper stand our value (mean ± sample standard deviation over "
    "seeds, n = number of seeds), the difference, and whether it is within the band that is agreed for its kind of run."
)
NOTHING = "No published table has the dataset, setting and scenario of these results."


def published_tables(published: PublishedResults, summary: pd.DataFrame | None = None) -> list[Table]:
    """One table per paper, dataset, task, setting and protocol; scenarios stand side by side.

    Args:
        published: the numbers.
        summary: from :func:`model.reporting.summary.summarise` with the columns
            :data:`~model.reporting.summary.PRINTED`. With it, there are only tables that have a scenario of the results, with
            our rows below the methods that were run.
    """
    tables = [_table(one, None) for one in published.papers] if summary is None else []
    for one in published.papers if summary is not None else ():
        assert summary is not None
        same = {"dataset": one.dataset, "task": one.task, "setting": one.setting}
        ours = summary[(summary[list(same)] == list(same.values())).all(axis=1)]
        if set(ours["scenario"]) & set(one.scenarios):
            tables.append(_table(one, ours))
    return tables


def write_published(tables: Sequence[Table], folder: Path) -> tuple[Path, ...]:
    """Write ``published.md``, ``published.tex`` and ``published.html``, with our values beside the papers'."""
    paths = tuple(folder / f"published.{suffix}" for suffix in ("md", "tex", "html"))
    lead = BESIDE if tables else NOTHING
    texts = markdown_tables(TITLE, lead, tables), latex_tables(tables), html_tables(TITLE, lead, tables)
    for path, text in zip(paths, texts, strict=True):
        write_text(path, text)
    return paths


def _table(one: PublishedTable, ours: pd.DataFrame | None) -> Table:
    values = {
        (scenario, method, str(column_of(one.task, group, metric))): value
        for (scenario, method, group, metric), value in one.values.items()
    }
    columns = [
        (scenario, column)
        for scenario in sorted(one.scenarios, key=natural)
        for column in PRINTED
        if any((scenario, method, column) in values for method in one.methods)
    ]
    letters = [value.provenance for value in values.values()]
    usual = max(PROVENANCE, key=letters.count)
    places = []
    for scenario, column in columns:
        numbers = [values.get((scenario, method, column)) for method in one.methods]
        places.append(ranks([_competing(m, number) for m, number in zip(one.methods, numbers, strict=True)]))
    rows = []
    for index, method in enumerate(one.methods):
        numbers = [values.get((scenario, method, column)) for scenario, column in columns]
        cells = [_number(number, usual, place[index]) for number, place in zip(numbers, places, strict=True)]
        rows.append(Row(method, tuple(cells)))
        if ours is not None:
            rows += _beside(ours[ours["published_as"] == method], one.task, columns, numbers)
    given = [letter for letter in PROVENANCE if letter in letters]
    meaning = "; ".join(f"{letter} = {PROVENANCE[letter]}" for letter in given)
    footnotes = [f"Numbers without a letter: {usual}. {meaning}" if len(given) > 1 else meaning]
    if one.sources:
        footnotes.append(f"Read from: {'; '.join(one.sources)}")
    metric = PRIMARY_METRIC[one.task]
    title = f"{one.paper}: {one.dataset}, {one.task} ({metric}), {one.setting}, protocol {one.protocol}"
    return Table(title, "method", tuple(columns), tuple(rows), footnotes=tuple(footnotes))


def _competing(method: str, number: PublishedValue | None) -> float | None:
    return None if number is None or is_upper_bound(method) else number.value


def _number(number: PublishedValue | None, usual: str, rank: Rank) -> Cell:
    if number is None:
        return Cell()
    return Cell(number.text if number.provenance == usual else f"{number.text} ({number.provenance})", rank)


def _beside(
    ours: pd.DataFrame, task: str, columns: Sequence[tuple[str, str]], numbers: Sequence[PublishedValue | None]
) -> list[Row]:
    """Two rows for each way in which a method was run: values, and what they say about the published ones."""
    rows = []
    for key, part in ours.groupby(["method", "recipe", "protocol"], sort=True):
        method, recipe, protocol = map(str, key)
        found: Mapping[tuple[str, str], Mapping[Any, Any]] = {
            (r["scenario"], str(column_of(task, r["group"], r["metric"]))): r for r in part.to_dict("records")
        }
        chosen = [found.get(column) for column in columns]
        if not any(chosen):
            continue
        cells = tuple(Cell() if row is None else Cell(value_text(row)) for row in chosen)
        rows.append(Row(f"{method} here ({recipe}, {protocol})", cells, minor=True))
        compared = [_difference(row, number) for row, number in zip(chosen, numbers, strict=True)]
        if any(cell.text != MISSING for cell in compared):
            rows.append(Row("difference", tuple(compared), minor=True))
    return rows


def _difference(row: Mapping[Any, Any] | None, number: PublishedValue | None) -> Cell:
    if row is None or number is None:
        return Cell()
    origin = Origin(bool(row["released"]), row["scenario"], row["steps"], row["seeds"], row["protocol"])
    difference, words = verdict(row["mean"], number, origin)
    return Cell(f"{difference:+.2f} ({words})")
