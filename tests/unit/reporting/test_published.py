"""The table of published results, and how a number finds its place beside ours."""

from __future__ import annotations

import csv
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

from model.evaluation.metrics.mean_iou import harmonic_mean
from model.evaluation.protocols import get
from model.reporting.published import COLUMNS, PublishedError, PublishedResults, read_published

TABLE = Path(__file__).parents[3] / "config" / "published_results.csv"
CLASSES = {"voc": 20, "ade20k": 150, "coco": 133}

Row = tuple[str, ...]


@cache
def experiments() -> dict[Row, dict[str, float]]:
    """(paper, dataset, task, scenario, setting, method, protocol, metric) → group → value."""
    found: dict[Row, dict[str, float]] = defaultdict(dict)
    with TABLE.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            identity = ("paper", "dataset", "task", "scenario", "setting", "method", "protocol", "metric")
            found[tuple(row[name] for name in identity)][row["group"]] = float(row["value"])
    return dict(found)


def test_the_table_is_valid() -> None:
    read_published(TABLE)
    for _, _, task, _, setting, _, protocol, metric in experiments():
        assert protocol == get(protocol).name
        assert setting in {"overlapped", "disjoint", "sequential", "partition"}
        assert metric.split("_")[0] in {"semantic": ("mIoU", "hIoU"), "panoptic": ("PQ",), "instance": ("AP",)}[task]


def background_counts(protocol: str, dataset: str) -> int:
    """Whether the background is one more class of the base step in group ``old``."""
    policy = get(protocol).background_policy(background_is_labelled=dataset == "voc")
    return int("old" in policy.background_groups)


def test_all_is_the_weighted_mean_of_old_and_new() -> None:
    """Catches a mistyped number: each printed row obeys the arithmetic of its own protocol, up to rounding."""
    accepted = {
        ("MiB", "50-50", "joint"): 0.3,  # printed values are averages over class orders
        ("SSUL", "50-50", "ssul"): 0.15,  # weighted 50/100 in the README, without class 0
        ("SSUL", "50-50", "ssul-m"): 0.15,
        ("RCIL", "19-1", "rcil"): 0.15,  # old and new as another paper quotes them
        ("RCIL", "50-50", "rcil"): 0.4,
    }
    checked = 0
    for (paper, dataset, task, scenario, _, method, protocol, _), values in experiments().items():
        if not {"old", "new", "all"} <= set(values):
            continue
        base, total = int(scenario.split("-")[0]), CLASSES[dataset]
        background = background_counts(protocol, dataset)
        mean = ((base + background) * values["old"] + (total - base) * values["new"]) / (total + background)
        # CoMFormer's semantic "all" has class 0 in it, "old" and "new" have not
        tolerance = 0.15 if (protocol, task) == ("comformer", "semantic") else 0.11
        tolerance = accepted.get((paper, scenario, method), tolerance)
        assert mean == pytest.approx(values["all"], abs=tolerance), (paper, dataset, task, scenario, method, values)
        checked += 1
    assert checked > 200


def test_harmonic_means_agree() -> None:
    checked = 0
    for key, values in experiments().items():
        if key[-1] == "hIoU":
            of_groups = experiments()[(*key[:-1], "mIoU")]
            if "old" in of_groups:
                assert harmonic_mean(of_groups["old"], of_groups["new"]) == pytest.approx(values["all"], abs=0.15), key
                checked += 1
    assert checked > 10


def row(**changes: str) -> dict[str, str]:
    text = "A,voc,semantic,15-1,overlapped,mib,plop,all,mIoU,30,V,table"
    return dict(zip(COLUMNS, text.split(","), strict=True)) | changes


def find(published: PublishedResults, setting: str = "overlapped", protocol: str = "plop") -> dict[str, float]:
    found = published.find("voc", "semantic", "15-1", setting, "mib", "mIoU", protocol)
    return {group: value.value for group, value in found.items()}


def test_the_same_protocol_is_preferred_then_the_first_paper() -> None:
    published = PublishedResults(
        [
            row(paper="A", protocol="mib", value="29"),
            row(paper="B"),
            row(paper="C", value="31"),
            row(group="old", value="40"),
        ]
    )
    assert find(published) == {"all": 30}
    assert find(published, protocol="mib") == {"all": 29}
    assert find(published, protocol="segue") == {"all": 29}


def test_groups_come_from_one_paper() -> None:
    published = PublishedResults([row(paper="A"), row(paper="B", group="old", value="50")])
    assert find(published) == {"all": 30}


def test_other_settings_do_not_match() -> None:
    assert find(PublishedResults([row()]), setting="disjoint") == {}
    assert find(PublishedResults.empty()) == {}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row(provenance="X")], "line 2: provenance 'X' is not one of V, C, B, Q, D"),
        ([row(), row(group="old", value="101")], "line 3: '101' is not a percentage"),
        ([row(value="?")], r"line 2: '\?' is not a percentage"),
        ([row(), row(value="31")], "line 3: this number is given twice"),
    ],
)
def test_bad_tables_are_refused(tmp_path: Path, rows: list[dict[str, str]], message: str) -> None:
    path = tmp_path / "published.csv"
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(PublishedError, match=message):
        read_published(path)


def test_other_columns_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("paper,value\n")
    with pytest.raises(PublishedError, match="exactly the columns paper,dataset"):
        read_published(tmp_path / "x.csv")


def test_tables_hold_what_was_published_side_by_side() -> None:
    tables = read_published(TABLE).tables("voc", "semantic", "15-1", "overlapped", "mIoU")
    assert tables["MiB (mib)"]["mib"] == 29.7 and tables["MiB (mib)"]["joint"] == 77.4
    assert len(tables["MiB (mib)"]) == 9, "the overall values of the methods of one table"
    assert not read_published(TABLE).tables("voc", "semantic", "14-2", "overlapped", "mIoU")
