"""The whole workflow for segments with mask networks, and what its jobs depend on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from checkout import Checkout, fresh_checkout

pytestmark = pytest.mark.xdist_group("micro-mask")

CONFIG = "config/micro-mask.yaml"


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    checkout = fresh_checkout(tmp_path_factory.mktemp("micro-mask"))
    result = checkout.snakemake(config=CONFIG)
    assert result.returncode == 0, result.stderr + result.stdout
    return checkout


def test_every_method_group_and_quality_has_a_row(done: Checkout) -> None:
    rows = pd.read_csv(done.folder / "results/tables/metrics.csv")
    assert set(rows["task"]) == {"panoptic"} and set(rows["method"]) == {"joint", "finetuning", "balconpas-r"}
    last = rows[(rows["step"] == 1) & (rows["metric"] == "PQ")]
    assert {tuple(row) for row in last[["method", "group"]].to_numpy()} >= {
        (method, group) for method in set(rows["method"]) for group in ("old", "new", "all")
    }
    assert {"SQ", "RQ", "PQ_things", "PQ_stuff"} <= set(rows["metric"])
    assert rows["value"].between(0, 100).all()


def test_records_name_their_counts_and_the_gallery_is_drawn(done: Checkout) -> None:
    records = sorted((done.folder / "results").rglob("evaluation.json"))
    assert len(records) == 4  # joint, the shared base step, one increment of each method
    for file in records:
        record = json.loads(file.read_text())
        assert (file.parent / record["files"]["panoptic"]).is_file()
        with np.load(file.parent / "predictions.npz") as kept:
            assert sum(key.startswith("prediction_segments/") for key in kept.files) == 2
    assert len(list((done.folder / "results/figures").rglob("gallery_*.png"))) == 3


def test_the_exemplars_of_the_increment_are_recorded(done: Checkout) -> None:
    (file,) = (done.folder / "results/runs").rglob("balconpas-r/seed0/step1/train.json")
    assert json.loads(file.read_text())["exemplars"] == 6


def edited(done: Checkout, folder: Path, file: str) -> set[str]:
    """Rules that would run after a module has changed."""
    checkout = done.copy(folder)
    path = checkout.folder / file
    path.write_text(path.read_text() + "\nADDED = 1\n")
    return {job.rule for job in checkout.planned(config=CONFIG)}


@pytest.mark.parametrize(
    ("file", "rules"),
    [
        ("model/data/loading/pixel_loading.py", set()),
        ("model/training/pixel_batches.py", set()),
        ("model/evaluation/evaluators/pixel_semantic.py", set()),
        ("model/evaluation/evaluators/mask_semantic.py", set()),
        ("model/data/loading/mask_transforms.py", {"train_base", "train_step", "evaluate_step"}),
        ("model/evaluation/evaluators/mask_panoptic.py", {"evaluate_step"}),
    ],
)
def test_jobs_follow_the_code_of_their_own_family_and_task(
    done: Checkout, tmp_path: Path, file: str, rules: set[str]
) -> None:
    planned = edited(done, tmp_path / "copy", file)
    assert {rule for rule in planned if rule.startswith(("train", "evaluate"))} == rules
