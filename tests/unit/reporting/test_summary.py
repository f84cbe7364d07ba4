"""The summary: method × scenario, mean and deviation over seeds, published numbers where they mean the same."""

from __future__ import annotations

import csv
import statistics
from pathlib import Path

import pandas as pd
import pytest
from made_up_runs import measure_joint, measure_run

from model.reporting.bounds import is_upper_bound, method_order
from model.reporting.published import COLUMNS, PublishedResults
from model.reporting.summary import summarise
from model.reporting.summary_tables import duration, headline, html, latex, markdown, size, write_summary
from model.reporting.tables import METRIC_COLUMNS, metric_rows, read_csv, write_csv


@pytest.fixture
def metrics(tmp_path: Path) -> pd.DataFrame:
    found = measure_joint(tmp_path, 0.95)
    for seed in (0, 1, 2):
        found += measure_run(tmp_path, "mib", (0.9, 0.7, 0.6 + 0.02 * seed), seed)
    found += measure_run(tmp_path, "finetuning", (0.9, 0.4, 0.1))
    return metric_rows(found)


def printed(group: str = "all", value: str = "29.7", **changes: str) -> dict[str, str]:
    text = f"MiB,toy,semantic,2-1,overlapped,mib,mib,{group},mIoU,{value},V,table"
    return dict(zip(COLUMNS, text.split(","), strict=True)) | changes


def test_methods_between_their_bounds() -> None:
    assert method_order(["plop", "finetuning", "mib", "joint", "ewc"]) == ["joint", "ewc", "mib", "plop", "finetuning"]


def test_the_upper_bound_of_any_family_is_one() -> None:
    assert is_upper_bound("joint") and is_upper_bound("simcis-joint") and not is_upper_bound("jointly")


def test_mean_and_deviation_over_seeds_after_the_last_step(metrics: pd.DataFrame) -> None:
    summary = summarise(metrics, PublishedResults.empty())
    mib = summary[(summary["method"] == "mib") & (summary["group"] == "all") & (summary["metric"] == "mIoU")].iloc[0]
    chosen = metrics[(metrics["method"] == "mib") & (metrics["step"] == 2) & (metrics["metric"] == "mIoU")]
    values = chosen[chosen["group"] == "all"]["value"].tolist()
    assert len(values) == mib["seeds"] == 3
    assert mib["mean"] == pytest.approx(statistics.mean(values))
    assert mib["std"] == pytest.approx(statistics.stdev(values))
    alone = summary[summary["method"] == "finetuning"]
    assert alone["std"].isna().all() and set(alone["seeds"]) == {1}
    assert list(dict.fromkeys(summary["method"])) == ["joint", "mib", "finetuning"]
    assert set(summary["group"]) == {"old", "new", "all"}


def test_the_mean_over_steps_is_a_column_that_the_upper_bound_has_not(metrics: pd.DataFrame) -> None:
    text = markdown(summarise(metrics, PublishedResults.empty()))
    head, _, joint, mib, _ = [line.split(" | ") for line in text.splitlines() if line.startswith("|")]
    assert head[-1] == "2-1 avg |" and joint[-1] == "– |"
    steps = metrics[(metrics["method"] == "mib") & (metrics["group"] == "all") & (metrics["metric"] == "mIoU")]
    assert f"{steps['value'].mean():.2f} ±" in mib[-1]


def test_the_best_and_second_best_are_marked_and_the_upper_bound_does_not_compete(metrics: pd.DataFrame) -> None:
    rows = metrics[(metrics["method"] == "finetuning") & (metrics["step"] == 2) & (metrics["metric"] == "mIoU")]
    (lowest,) = rows[rows["group"] == "all"].to_dict("records")
    value = f"{lowest['value'] + 1:.2f} (n=1)"
    other = pd.DataFrame([lowest | {"method": "lwf", "value": lowest["value"] + 1}])
    summary = summarise(pd.concat([metrics, other]), PublishedResults.empty())
    cells = {line.split(" | ")[0]: line.split(" | ")[3] for line in markdown(summary).splitlines() if line[:2] == "| "}
    assert cells["| mib"].startswith("**") and cells["| joint"][0].isdigit()
    assert cells["| lwf"] == f"*{value}*" and cells["| finetuning"][0].isdigit()
    assert r"\textbf{" in latex(summary) and rf"\underline{{{value}}}" in latex(summary)
    assert f"<u>{value}</u>" in html(summary) and html(summary).count("<strong>") == 4


def test_published_numbers_stand_beside_ours(metrics: pd.DataFrame) -> None:
    published = PublishedResults([printed("old", "35.1"), printed("new", "13.5"), printed()])
    key = tuple(metrics.loc[0, ["dataset", "task", "recipe"]])
    summary = summarise(metrics, published, {key: "from scratch, not comparable"})
    text = markdown(summary)
    assert "35.1/13.5/29.7* (V)" in text  # evaluated by mib, ours by segue
    assert "mib: MiB (protocol: mib)" in text
    assert "V = read from an official table" in text
    assert "*from scratch, not comparable*" in text
    same = markdown(summarise(metrics.assign(protocol="mib"), published))
    assert "35.1/13.5/29.7 (V)" in same


@pytest.mark.parametrize(
    "other", [{"setting": "disjoint"}, {"scenario": "15-1"}, {"dataset": "voc"}, {"method": "plop"}]
)
def test_numbers_of_another_experiment_are_not_shown(metrics: pd.DataFrame, other: dict[str, str]) -> None:
    text = markdown(summarise(metrics, PublishedResults([printed(**other)])))
    assert "29.7" not in text and "ublished" not in text.split("## ")[1]


def test_a_partly_printed_row_has_dashes(metrics: pd.DataFrame) -> None:
    assert "–/–/29.7* (V)" in markdown(summarise(metrics, PublishedResults([printed()])))


def test_every_row_has_every_column(metrics: pd.DataFrame) -> None:
    other = metrics[metrics["method"] != "finetuning"].assign(scenario="3-1")
    text = markdown(summarise(pd.concat([metrics, other]), PublishedResults([printed()])))
    table = [line for line in text.split("### ")[0].splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1
    assert len(table) == 2 + 3
    assert table[-1].startswith("| finetuning | – | – | – | – | ")  # finetuning was not run on the second scenario


def test_files(tmp_path: Path, metrics: pd.DataFrame) -> None:
    key = tuple(metrics.loc[0, ["dataset", "task", "recipe"]])
    summary = summarise(metrics, PublishedResults([printed()]), {key: "50% & more_or_less"})
    paths = write_summary(summary, tmp_path / "tables")
    assert [path.name for path in paths] == [
        "summary.md",
        "summary.csv",
        "summary.tex",
        "summary.html",
        "headline.html",
    ]
    with paths[1].open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(summary)
    tex = latex(summary)
    assert tex.count(r"\begin{table}") == tex.count(r"\end{table}") == 2  # values and verdicts
    assert r"50\% \& more\_or\_less" in tex and r"$\pm$" in tex and "±" not in tex
    widths = {line.count("&") for line in tex.splitlines() if "n=" in line}
    assert len(widths) == 1


def test_the_headline_is_brief_and_escaped(metrics: pd.DataFrame) -> None:
    text = headline(summarise(metrics.assign(recipe="<b>&"), PublishedResults.empty()))
    assert text.count("<table>") == 1 and "&lt;b&gt;&amp;" in text and "<b>" not in text
    assert text.count("<tr>") == 2 + 3 and "±" not in text and "avg" not in text
    assert text.count("<strong>") == 3, "mib is ahead in old, new and all; the upper bound does not compete"


def test_nothing_to_summarise(metrics: pd.DataFrame) -> None:
    assert summarise(metrics[metrics["metric"] == "mAcc"], PublishedResults.empty()).empty


HOSTILE = {
    "<script>alert(1)</script>": (r"\<script\>alert(1)\</script\>", r"\textless{}script\textgreater{}"),
    r"\input{/etc/passwd}": (r"\\input{/etc/passwd}", r"\textbackslash{}input\{/etc/passwd\}"),
    "a | b\n\n# c": (r"a \| b  # c", r"a \textbar{} b  \# c"),
    "$x_1^2$ ~ 50% & more": (
        r"$x\_1^2$ \~ 50% &amp; more",
        r"\$x\_1\textasciicircum{}2\$ \textasciitilde{} 50\% \& more",
    ),
    "![](http://x) `code` *b*": (r"!\[\](http://x) \`code\` \*b\*", r"![](http://x)"),
}


@pytest.mark.parametrize("note", HOSTILE)
def test_a_note_is_shown_and_not_interpreted(metrics: pd.DataFrame, note: str) -> None:
    key = tuple(metrics.loc[0, ["dataset", "task", "recipe"]])
    summary = summarise(metrics, PublishedResults([printed(paper=note)]), {key: note})
    in_markdown, in_latex = HOSTILE[note]
    assert note.replace("\n", " ") not in html(summary) or "<" not in note
    assert "<script" not in html(summary)
    assert f"*{in_markdown}*" in markdown(summary) and f"mib: {in_markdown} (protocol" in markdown(summary)
    assert latex(summary).count(in_latex) >= 2
    assert "<script" not in markdown(summary).replace(r"\<", "") and r"\input" not in latex(summary)
    values = markdown(summary).split("### ")[0]
    assert {line.count(" | ") for line in values.splitlines() if line.startswith("| ")} == {3 + 1 + 1}


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@x", "\t=1", "'=1", "''-", "=HYPERLINK(1)", "a=b", "'", "", "it's"]
)
def test_no_cell_is_a_formula_and_every_cell_can_be_read_back(tmp_path: Path, text: str) -> None:
    frame = pd.DataFrame({"class": [text, "sky"], "value": [-1.5, 2.0]})
    write_csv(frame, tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(newline="") as stream:
        rows = list(csv.reader(stream))
    assert not rows[1][0].startswith(("=", "+", "-", "@", "\t"))
    assert rows[1][1] == "-1.500000" and rows[2][0] == "sky"
    assert read_csv(tmp_path / "a.csv")["class"].tolist() == [text, "sky"]


def test_released_weights_are_compared_with_the_published_number():
    rows = made_up_released({"old": 37.0, "new": 20.0, "all": 33.4})
    by_group = {row["group"]: row for row in rows.to_dict("records")}
    assert by_group["all"]["published"] == 32.82 and by_group["all"]["paper"] == "BalConpas"
    assert by_group["all"]["difference"] == pytest.approx(0.58) and by_group["all"]["verdict"] == "within ±1"
    assert by_group["old"]["verdict"] == "no published number"
    assert made_up_released({"all": 33.83}).iloc[0]["verdict"] == "outside ±1"
    text = markdown(rows)
    assert "| balconpas-r-released | 100-5 | all | 33.40 | 32.82 (V) | +0.58 | within ±1 |" in text


def test_released_weights_of_an_earlier_step_have_no_published_number():
    assert made_up_released({"all": 32.8}, last=False).iloc[0]["verdict"] == "no published number"


def made_up_released(values, last=True):
    """The summary of one row of released weights."""
    identity = ("ade20k", "panoptic", "100-5", "overlapped", "r50", "balconpas-r-released", 0, 10, "balconpas")
    metrics = pd.DataFrame([(*identity, group, "PQ", value) for group, value in values.items()], columns=METRIC_COLUMNS)
    paper = dict(
        paper="BalConpas", dataset="ade20k", task="panoptic", scenario="100-5", setting="overlapped", method="balconpas-r",
        protocol="balconpas", group="all", metric="PQ", value="32.82", provenance="V", source="",
    )  # fmt: skip
    key = ("ade20k", "panoptic", "overlapped", "r50", "100-5", "balconpas-r-released")
    return summarise(metrics, PublishedResults([paper]), released={key: ("balconpas-r", last)})


COSTS = {
    "dataset": "toy", "task": "semantic", "scenario": "2-1", "setting": "overlapped", "recipe": "tiny", "method": "mib",
    "seed": 0, "parameters": 1000, "trainable_parameters": 900, "exemplars": 40, "exemplar_bytes": 3 << 20, "state_bytes": 0,
    "iterations": 10, "seconds": 3 * 3600.0, "base_seconds": 60.0, "peak_resident_bytes": 5 << 30, "peak_gpu_bytes": 2 << 30,
    "kept": 0,
}  # fmt: skip


def test_costs_stand_below_the_values(metrics: pd.DataFrame) -> None:
    summary = summarise(metrics, PublishedResults.empty())
    text = markdown(summary, pd.DataFrame([COSTS, COSTS | {"seed": 1, "seconds": 5 * 3600.0}]))
    assert "| mib | 2-1 | 900 of 1,000 | 40 images, 3.0 MiB | – | 4.0 h GPU | 2.0 GiB on the GPU |" in text
    alone = markdown(summary, pd.DataFrame([COSTS | {"peak_gpu_bytes": 0, "exemplars": 0, "state_bytes": 5000}]))
    assert "| 900 of 1,000 | – | 4.9 KiB | 3.0 h CPU | 5.0 GiB |" in alone
    assert "Costs" not in markdown(summary, pd.DataFrame([COSTS | {"recipe": "another"}]))


def test_units() -> None:
    assert [size(1023), size(1 << 20), size(5 << 30)] == ["1023 B", "1.0 MiB", "5.0 GiB"]
    assert [duration(119), duration(120), duration(7200)] == ["119 s", "2.0 min", "2.0 h"]
