"""Tables of several results folders side by side."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from model.reporting.costs import COST_COLUMNS
from model.reporting.joined import JoinError, folder_titles, join
from model.reporting.published import PublishedResults
from model.reporting.results_archive import ArchiveError, write_archive
from model.reporting.summary import summarise
from model.reporting.tables import CLASS_COLUMNS, METRIC_COLUMNS, write_csv

PAPER = dict(
    paper="MiB", dataset="voc", task="semantic", scenario="15-5", setting="overlapped", method="mib", protocol="mib", group="all",
    metric="mIoU", value="69.0", provenance="V", source="",
)  # fmt: skip


def results(folder: Path, values: dict[str, float], seed: int = 0) -> Path:
    """A results folder with the tables of some methods."""
    tables = folder / "tables"
    tables.mkdir(parents=True)
    identity = ("voc", "semantic", "15-5", "overlapped", "r101")
    rows = [(*identity, method, seed, 1, "mib", "all", "mIoU", value) for method, value in values.items()]
    write_csv(pd.DataFrame(rows, columns=list(METRIC_COLUMNS)), tables / "metrics.csv")
    classes = [(*identity, method, seed, 1, "mib", "past", "cat", "IoU", value) for method, value in values.items()]
    write_csv(pd.DataFrame(classes, columns=list(CLASS_COLUMNS)), tables / "per_class.csv")
    costs = [(*identity, method, seed, *(0 for _ in COST_COLUMNS[7:])) for method in values]
    write_csv(pd.DataFrame(costs, columns=list(COST_COLUMNS)), tables / "costs.csv")
    return folder


def test_a_method_of_several_folders_is_told_apart_and_keeps_its_published_number(tmp_path: Path) -> None:
    ours = results(tmp_path / "ours/results", {"mib": 68.0, "plop": 70.0})
    theirs = results(tmp_path / "theirs/results", {"mib": 60.0, "ilt": 50.0})
    joined = join([ours, theirs])
    assert set(joined.metrics["method"]) == {"mib (ours)", "mib (theirs)", "plop", "ilt"}
    assert set(joined.costs["method"]) == set(joined.per_class["method"]) == set(joined.metrics["method"])
    summary = summarise(joined.metrics, PublishedResults([PAPER]), names=joined.names).set_index("method")
    assert summary.loc["mib (ours)", "verdict"] == "within ±1.5"
    assert summary.loc["mib (theirs)", "verdict"] == "outside ±1.5"
    assert summary.loc["plop", "paper"] == ""


def test_folders_are_named_by_what_tells_them_apart() -> None:
    assert folder_titles([Path("/a/ours/results"), Path("/a/theirs/results")]) == ["ours", "theirs"]
    assert folder_titles([Path("/a/one/x"), Path("/a/two/x")]) == ["one/x", "two/x"]


def test_what_cannot_be_joined_is_named(tmp_path: Path) -> None:
    ours = results(tmp_path / "ours", {"mib": 1.0})
    with pytest.raises(JoinError, match="at least two results"):
        join([ours])
    with pytest.raises(JoinError, match="named twice"):
        join([ours, tmp_path / "ours/../ours"])
    with pytest.raises(JoinError, match=r"metrics\.csv does not exist: .*is no results folder of a finished run"):
        join([ours, tmp_path / "nowhere"])
    theirs = results(tmp_path / "theirs", {"mib": 1.0})
    (theirs / "tables/costs.csv").write_text("a,b\n1,2\n")
    with pytest.raises(JoinError, match=r"costs\.csv has other columns"):
        join([ours, theirs])
    (theirs / "tables/metrics.csv").write_text("")
    with pytest.raises(JoinError, match=r"metrics\.csv cannot be read as a table"):
        join([ours, theirs])


ORIGIN = {
    **{
        name: "x"
        for name in (
            "dataset",
            "task",
            "scenario",
            "setting",
            "recipe",
            "protocol",
            "state",
            "revision",
            "device",
            "folder",
        )
    },
    **{"method": "mib", "seed": 0, "step": 1, "details": [["Versions", "<b>torch</b>"]]},
}


def archived(folder: Path, path: Path, origins: object = (ORIGIN,)) -> Path:
    """The tables of a results folder in an archive."""
    files = {f"tables/{file.name}": file.read_bytes() for file in (folder / "tables").iterdir()}
    write_archive(path, "1.0", {**files, "origins.json": json.dumps({"origins": origins}).encode()})
    return path


def test_an_archive_stands_for_its_folder_and_brings_the_origins(tmp_path: Path) -> None:
    ours = results(tmp_path / "ours/results", {"mib": 68.0})
    theirs = results(tmp_path / "theirs/results", {"mib": 60.0, "ilt": 50.0})
    folders = join([ours, theirs])
    sent = archived(theirs, tmp_path / "theirs/results.zip")
    mixed = join([ours, sent])
    for name in ("metrics", "per_class", "costs"):
        pd.testing.assert_frame_equal(getattr(mixed, name), getattr(folders, name))
    assert mixed.names == folders.names and not folders.origins
    assert [one["method"] for one in mixed.origins] == ["mib (theirs)"]
    assert folder_titles([sent, archived(ours, tmp_path / "anna.zip")]) == ["theirs", "anna"]


def test_an_archive_without_a_table_or_with_strange_origins_is_named(tmp_path: Path) -> None:
    ours, path = results(tmp_path / "ours", {"mib": 1.0}), tmp_path / "theirs.zip"
    write_archive(path, "1.0", {"origins.json": b'{"origins": []}'})
    with pytest.raises(JoinError, match=r"theirs\.zip holds no metrics\.csv"):
        join([ours, path])
    archived(ours, path, [{**ORIGIN, "details": "text"}])
    with pytest.raises(ArchiveError, match=r"origins\.0\.details"):
        join([ours, path])
