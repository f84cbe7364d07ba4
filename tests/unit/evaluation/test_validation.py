"""The score by which a recipe keeps the best network is the one that an evaluation of this network finds."""

from __future__ import annotations

import json
import runpy
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from model.common.fingerprints import PROJECT
from model.common.json_files import write_checked
from model.data.prepared.dataset import PreparedDataset
from model.data.sources.shapes import Shapes
from model.evaluation.job import evaluate_checkpoint
from model.evaluation.metrics.mean_iou import semantic_scores
from model.evaluation.protocols import get

KNOWN = [0, 1, 2]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "toy"
    Shapes(train_images=12, val_images=6, stuff=2, things=2, size=(32, 48)).prepare(folder, "toy", 1)
    return folder


def spec() -> dict:
    return {
        "dataset": "toy",
        "task": "semantic",
        "setting": "overlapped",
        "seed": 0,
        "step": {"index": 0, "past": [], "current": KNOWN},
        "method": {"name": "finetuning", "hyper_parameters": {}},
        "recipe": {
            "family": "per-pixel",
            "network": {"name": "deeplabv3", "backbone": "tiny", "head": "mib", "channels": 16, "rates": [1, 2, 3]},
            "optimiser": {"name": "sgd", "learning_rate": 0.05},
            "iterations": 12,
            "batch_size": 4,
            "transform": {"name": "random-resized-crop", "size": 32},
            "threads": 1,
            "keep_best": {"protocol": "segue", "at_least": 3, "fraction": 0.01},
        },
    }


def test_the_recorded_score_is_that_of_the_checkpoint(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [record.id for record in PreparedDataset.open(data).records("train")]
    common = {"dataset": "toy", "task": "semantic", "setting": "overlapped", "split": "train", "rule": "…"}
    step = {"step": 0, "past": [], "current": KNOWN, "visible": KNOWN, "images": names}
    write_checked(tmp_path / "split.json", {**common, **step})
    options = {
        "--spec": json.dumps(spec()),
        "--data": str(data / "dataset.json"),
        "--split": str(tmp_path / "split.json"),
        "--checkpoint": str(tmp_path / "checkpoint.pt"),
        "--record": str(tmp_path / "train.json"),
        "--curves": str(tmp_path / "train.csv"),
        "--work": str(tmp_path / "work"),
        "--device": "cpu",
    }
    monkeypatch.setattr(sys, "argv", ["train_step.py", *(text for pair in options.items() for text in pair)])
    runpy.run_path(str(PROJECT / "workflow_scripts" / "train_step.py"), run_name="__main__")
    record = json.loads((tmp_path / "train.json").read_text())
    assert {"model.evaluation.validation", "model.evaluation.evaluators.pixel_semantic"} <= record["modules"].keys()

    protocol = get("segue")
    evaluation = {
        **{key: spec()[key] for key in ("dataset", "task", "step", "method")},
        "protocol": asdict(protocol),
        "family": "per-pixel",
        "network": "deeplabv3",
        "size": None,
        "batch_size": 4,
        "threads": 1,
        "gallery": 0,
    }
    evaluated = evaluate_checkpoint(
        evaluation, data, tmp_path / "checkpoint.pt", split="val", device=torch.device("cpu"), workers=0
    )
    groups = semantic_scores(evaluated.result.counts, {"new": KNOWN}, protocol, False).groups
    assert record["best"]["iteration"] in (3, 6, 9, 12)
    assert record["best"]["score"] == pytest.approx(groups["new"]["mIoU"], abs=1e-9)
