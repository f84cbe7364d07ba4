"""A sweep as a workflow: its runs share what they can, and end in one table and one figure."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import yaml
from checkout import fresh_checkout

CONFIG = "config/sweep.yaml"


@pytest.mark.xdist_group("sweep")
def test_the_example_ends_in_a_table_and_a_figure_of_all_combinations(tmp_path: Path):
    checkout = fresh_checkout(tmp_path / "project")
    content = yaml.safe_load((checkout.folder / CONFIG).read_text())
    (experiment,) = content["experiments"]
    experiment["sweep"]["method.distillation_weight"] = [1, 10]  # less of the same
    experiment["methods"] = ["mib"]
    (checkout.folder / "smaller.yaml").write_text(yaml.safe_dump(content))
    done = checkout.snakemake(config="smaller.yaml")
    assert done.returncode == 0, done.stderr + done.stdout
    results = checkout.folder / "results"
    assert len(list((results / "base").rglob("checkpoint.pt"))) == 1
    assert len(list((results / "runs").rglob("checkpoint.pt"))) == 4
    (table,) = (results / "tables").glob("*/sweep.csv")
    with table.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    with (results / "tables/metrics.csv").open(newline="") as stream:
        metrics = list(csv.DictReader(stream))
    for row in rows:
        same = {"recipe": row["recipe"], "method": row["run"], "group": row["group"], "metric": "mIoU", "step": "1"}
        (measured,) = [one["value"] for one in metrics if same.items() <= one.items()]
        assert row["mean"] == measured
    combinations = {(row["distillation_weight"], row["increment.learning_rate"]) for row in rows}
    assert combinations == {(weight, rate) for weight in ("1", "10") for rate in ("0.01", "0.1")}
    assert sum(row["chosen"] == "1" for row in rows if row["group"] == "all") == 1
    data = results / "data/shapes-micro@validation=0.25"
    stays, held_out = (
        {line.split(",")[0] for line in (data / f"{split}.csv").read_text().splitlines()[1:]}
        for split in ("train", "val")
    )
    assert held_out and not stays & held_out and len(stays | held_out) == 40
    for split in (results / "splits" / data.name).rglob("*.json"):
        if not split.name.endswith(".made_by.json"):
            assert set(json.loads(split.read_text())["images"]) <= stays
    for record in results.rglob("evaluation.json"):
        assert json.loads(record.read_text())["images"] == len(held_out)
    assert {row["dataset"] for row in metrics} == {data.name}
    assert "validation: 0.25 of the training images" in (results / "tables/summary.md").read_text()
    (figure,) = (results / "figures").glob("*/sweep.svg")
    assert figure.parent.name == table.parent.name
    assert not checkout.planned(config="smaller.yaml")
