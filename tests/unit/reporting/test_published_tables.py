"""Every published table can be printed, with no run and with runs beside; LaTeX compiles."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from model.reporting.published import PublishedResults, read_published
from model.reporting.published_tables import published_tables, write_published
from model.reporting.summary import PRINTED, summarise
from model.reporting.summary_tables import latex
from model.reporting.table_formats import html_tables, latex_document, latex_tables, markdown_tables
from model.reporting.tables import METRIC_COLUMNS

PROJECT = Path(__file__).parents[3]
FILE = PROJECT / "config/published_results.csv"


@pytest.fixture(scope="module")
def published() -> PublishedResults:
    return read_published(FILE)


def rows_of_the_file() -> list[dict[str, str]]:
    with FILE.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def ours(protocol: str, method: str = "mib", seeds: int = 1, **values: float) -> pd.DataFrame:
    """Values of a run on VOC 15-5, which has two steps."""
    identity = ("voc", "semantic", "15-5", "overlapped", "r101", method)
    rows = [
        (*identity, seed, 1, protocol, group.removeprefix("avg_"), "mIoU_avg" if "_" in group else "mIoU", value)
        for seed in range(seeds)
        for group, value in values.items()
    ]
    return pd.DataFrame(rows, columns=list(METRIC_COLUMNS))


def test_every_published_number_is_printed_once(published: PublishedResults) -> None:
    tables = published_tables(published)
    cells = [cell.text.split(" ")[0] for table in tables for row in table.rows for cell in row.cells]
    printed = sorted(cell for cell in cells if cell != "–")
    assert printed == sorted(row["value"] for row in rows_of_the_file())


def test_each_number_stands_in_the_column_of_its_scenario_and_group(published: PublishedResults) -> None:
    (table,) = [t for t in published_tables(published) if t.title.startswith("MiB: voc") and "overlapped" in t.title]
    assert [column for scenario, column in table.head if scenario == "15-5"] == ["old", "new", "all"]
    (row,) = [row for row in table.rows if row.label == "mib"]
    found = dict(zip(table.head, (cell.text for cell in row.cells), strict=True))
    wanted = {
        (r["scenario"], r["group"]): r["value"]
        for r in rows_of_the_file()
        if (r["paper"], r["dataset"], r["setting"], r["method"]) == ("MiB", "voc", "overlapped", "mib")
    }
    assert len(wanted) == 9 and {place: text.split(" ")[0] for place, text in found.items()} == wanted


def test_the_best_published_method_of_a_column_is_marked_and_joint_is_none(published: PublishedResults) -> None:
    (table,) = [t for t in published_tables(published) if t.title.startswith("MiB: voc") and "disjoint" in t.title]
    marked = {(row.label, cell.rank) for row in table.rows for cell in row.cells[2:3]}
    assert {("mib", 1), ("ilt", 2), ("joint", 0)} <= marked  # all classes of 19-1: 67.4, 66.4 and 77.4


def test_a_number_of_another_provenance_carries_its_letter(published: PublishedResults) -> None:
    letters = {
        (r["paper"], r["dataset"], r["setting"], r["protocol"], r["task"]): set[str]() for r in rows_of_the_file()
    }
    for r in rows_of_the_file():
        letters[r["paper"], r["dataset"], r["setting"], r["protocol"], r["task"]].add(r["provenance"])
    mixed = [key for key, found in letters.items() if len(found) > 1]
    assert mixed
    tables = published_tables(published)
    for paper, dataset, setting, protocol, task in mixed:
        start, end = f"{paper}: {dataset}, {task} ", f", {setting}, protocol {protocol}"
        (table,) = [t for t in tables if t.title.startswith(start) and t.title.endswith(end)]
        found = {cell.text.split("(")[1][0] for row in table.rows for cell in row.cells if "(" in cell.text}
        assert len(found) == len(letters[paper, dataset, setting, protocol, task]) - 1
        assert table.footnotes[0].startswith("Numbers without a letter:")


def test_runs_stand_below_their_method_with_difference_and_verdict(published: PublishedResults) -> None:
    (number,) = [
        float(r["value"])
        for r in rows_of_the_file()
        if (r["paper"], r["scenario"], r["setting"], r["method"], r["group"], r["dataset"])
        == ("MiB", "15-5", "overlapped", "mib", "all", "voc")
    ]
    summary = summarise(ours("mib", all=number + 1.2, old=10.0), published, columns=PRINTED)
    tables = published_tables(published, summary)
    assert all("voc" in table.title and "overlapped" in table.title for table in tables)
    (table,) = [table for table in tables if table.title.startswith("MiB:")]
    labels = [row.label for row in table.rows]
    place = labels.index("mib")
    assert labels[place + 1 : place + 3] == ["mib here (r101, mib)", "difference"]
    column = table.head.index(("15-5", "all"))
    assert table.rows[place + 1].cells[column].text == f"{number + 1.2:.2f} (n=1)"
    assert table.rows[place + 2].cells[column].text == "+1.20 (within ±1.5)"
    assert "outside ±1.5" in table.rows[place + 2].cells[column - 2].text
    assert table.rows[place + 1].cells[table.head.index(("19-1", "all"))].text == "–"


def test_a_value_under_another_protocol_gets_no_verdict(published: PublishedResults) -> None:
    summary = summarise(ours("segue", all=70.0), published, columns=PRINTED)
    (table,) = [t for t in published_tables(published, summary) if t.title.startswith("MiB:")]
    (difference,) = [row for row in table.rows if row.label == "difference"]
    assert "other protocol (mib)" in difference.cells[table.head.index(("15-5", "all"))].text


def test_results_that_no_paper_has_leave_the_tables_out(published: PublishedResults, tmp_path: Path) -> None:
    summary = summarise(ours("segue", all=70.0).assign(dataset="mine"), published, columns=PRINTED)
    assert published_tables(published, summary) == []
    paths = write_published([], tmp_path)
    assert [path.suffix for path in paths] == [".md", ".tex", ".html"]
    assert "No published table" in paths[0].read_text() and "No published table" in paths[2].read_text()


def test_the_page_of_all_tables_is_that_of_the_file(tmp_path: Path) -> None:
    command = [sys.executable, "workflow_scripts/write_published.py", "--output", str(tmp_path / "page.md")]
    subprocess.run(command, cwd=PROJECT, check=True)
    page = (PROJECT / "docs/published.md").read_text(encoding="utf-8")
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == page, "run `make docs`"


def test_tables_are_rectangular_in_every_format(published: PublishedResults) -> None:
    for table in published_tables(published):
        assert {len(row.cells) for row in table.rows} == {len(table.head)}
    text = markdown_tables("", "", published_tables(published)[:1])
    assert len({line.count(" | ") for line in text.splitlines() if line.startswith("| ")}) == 1
    page = html_tables("t", "", published_tables(published))
    assert page.count("<table>") == page.count("</table>") == len(published.papers)
    assert "http" not in page.replace("https://", "").lower() or "src=" not in page


@pytest.fixture(scope="module")
def compile_latex() -> str:
    for program in ("pdflatex", "tectonic"):
        if found := shutil.which(program):
            return found
    pytest.skip("neither pdflatex nor tectonic is installed: LaTeX tables are not compiled")


HOSTILE = r"a_b & 50% $x^2$ #{1} \input{/etc/passwd} ~ <tag> | ± – → †"


def test_all_tables_compile(published: PublishedResults, compile_latex: str, tmp_path: Path) -> None:
    metrics = pd.concat(
        [ours("mib", seeds=3, all=70.0, old=75.0, new=50.0, avg_all=72.0), ours("mib", "joint", all=77.0)]
    )
    metrics = pd.concat([metrics, ours("mib", "plop", all=60.0, old=65.0)])
    key = ("voc", "semantic", "r101")
    summary = summarise(metrics, published, {key: HOSTILE})
    beside = published_tables(published, summarise(metrics, published, columns=PRINTED))
    text = latex(summary) + latex_tables(beside) + latex_tables(published_tables(published))
    assert text.count(r"\begin{table}") == len(beside) + len(published.papers) + 2
    file = tmp_path / "tables.tex"
    file.write_text(latex_document(text), encoding="utf-8")
    arguments = ["-interaction=nonstopmode", "-halt-on-error"] if "pdflatex" in compile_latex else []
    done = subprocess.run([compile_latex, *arguments, file.name], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and (tmp_path / "tables.pdf").stat().st_size > 10_000, done.stdout[-3000:]
