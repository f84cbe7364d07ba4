"""Every value of ``metrics.csv``, recomputed from stored predictions by code that shares nothing with Segue.

A semantic, a panoptic and an instance experiment run, whose galleries keep all validation images, so that every prediction is on
disk; detections, of which galleries keep the confident ones only, are written by ``make predict``'s program. The networks are
trained for seconds, so the values are low; that they are not all zero is checked.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

import pytest
import yaml
from checkout import Checkout
from plain_metrics import OfClasses, Truth, instance, mean, over_steps, panoptic, semantic

pytestmark = pytest.mark.xdist_group("micro")

DATASET, RECIPE, LOW = "shapes-micro", "mask2former-longer", {"object_threshold": 0.05, "overlap_threshold": 0.0}
MASK_METHODS = [{"name": "joint", "hyper_parameters": LOW}, {"name": "balconpas", "hyper_parameters": LOW}]
MEASURES = {
    "semantic": (semantic, "mIoU", ("finetuning", "mib")),
    "panoptic": (panoptic, "PQ", ("balconpas",)),
    "instance": (instance, "AP", ("balconpas",)),
}
"""How a task is measured, its primary metric, and the methods beside the upper bound."""
ROUNDING = 0.5e-6 + 1e-9
"""Values in ``metrics.csv`` have six decimals."""

Key = tuple[str, str, int, str, str]
"""Task, method, step, group, metric."""


@pytest.fixture(scope="module")
def done(micro: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """All three tasks have run; the semantic trainings are those of the micro configuration."""
    checkout = micro.copy(tmp_path_factory.mktemp("recomputed") / "segue")
    recipes = checkout.folder / "config/recipes"
    recipe = yaml.safe_load((recipes / "mask2former-micro.yaml").read_text())
    recipe |= {"base": {"iterations": 150}, "increment": {"iterations": 30, "learning_rate": 5e-4}}
    (recipes / f"{RECIPE}.yaml").write_text(yaml.safe_dump(recipe))
    config = yaml.safe_load((checkout.folder / "config/micro.yaml").read_text())
    config["gallery"]["images"] = config["datasets"][DATASET]["val_images"]
    config["experiments"][0]["methods"] = ["joint", "finetuning", "mib"]
    shared = {"dataset": DATASET, "recipe": RECIPE, "methods": MASK_METHODS}
    config["experiments"] += [
        {**shared, "task": "panoptic", "scenarios": ["4-2"]},
        {**shared, "task": "instance", "scenarios": ["2-1"], "methods": ["joint", "balconpas"]},
    ]
    (checkout.folder / "recomputed.yaml").write_text(yaml.safe_dump(config))
    trained = checkout.folder / "results/base"
    before = {file: file.stat().st_mtime_ns for file in trained.rglob("checkpoint.pt")}
    result = checkout.snakemake("--until", "tables", config="recomputed.yaml")
    assert result.returncode == 0, result.stderr + result.stdout
    assert before and all(
        file.stat().st_mtime_ns == time for file, time in before.items()
    )  # evaluated anew, not trained
    return checkout


def detections(checkout: Checkout, training: Path) -> Path:
    """COCO results for the validation images by a trained step."""
    out = checkout.folder / "predictions" / training.relative_to(checkout.folder)
    images = checkout.folder / f"results/data/{DATASET}/raw/images/validation"
    command = [sys.executable, "workflow_scripts/predict.py", "--no-overlays", "--batch-size", "2"]
    command += ["--checkpoint", str(training / "checkpoint.pt"), "--images", str(images), "--out", str(out)]
    result = subprocess.run(command, cwd=checkout.folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return out / "instances.json"


def step_folder(checkout: Checkout, task: str, method: str, increments: Sequence[Sequence[int]], step: int) -> Path:
    """Where a step's checkpoint is: base steps and joint trainings are found by the classes that they know."""
    results = checkout.folder / "results"
    if method != "joint" and step > 0:
        (folder,) = (results / f"runs/{DATASET}").glob(f"{task}_*/*/{method}/seed0/step{step}")
        return folder
    known = [c for part in increments for c in part] if method == "joint" else list(increments[0])
    found = set()
    for record in (results / f"base/{DATASET}").glob("*/seed0/evaluation/*/evaluation.json"):
        evaluation = json.loads(record.read_text())
        if (evaluation["task"], evaluation["classes"]) == (task, known):
            found.add(record.parents[2])
    (folder,) = found
    return folder


def groups_after(step: int, increments: Sequence[Sequence[int]]) -> dict[str, list[int]]:
    """The groups of docs/evaluation.md."""
    known = list(chain(*increments[: step + 1]))
    base, current = len(increments[0]), len(increments[step])
    groups = {"old": known[:base], "new": known[base:], "past": known[:-current], "current": known[-current:]}
    return {**groups, "all": known}


def predictions(checkout: Checkout, task: str, folder: Path) -> Path:
    """What was predicted for the validation images by the checkpoint in a folder."""
    if task == "instance":
        return detections(checkout, folder)
    (file,) = folder.glob("evaluation/*/predictions.npz")
    return file


def recomputed(checkout: Checkout, task: str) -> dict[Key, float]:
    """All values of a task."""
    truth = Truth(checkout.folder / f"results/data/{DATASET}")
    assert truth.description["background_is_labelled"] is False
    measure, primary, methods = MEASURES[task]
    classes = [row["id"] for row in truth.description["categories"]]
    classes = [c for c in classes if c in truth.things] if task == "instance" else classes
    base = len(classes) // 2
    increments = (classes[:base], classes[base : base + base // 2], classes[base + base // 2 :])
    last = len(increments) - 1
    found: dict[Key, float] = {}

    def note(method: str, step: int, values: Mapping[str, Mapping[str, float]]) -> None:
        for group, of_group in values.items():
            found.update({(task, method, step, group, metric): value for metric, value in of_group.items()})

    bound = predictions(checkout, task, step_folder(checkout, task, "joint", increments, last))
    of_groups, best = measure(truth, bound, classes)
    for step in range(last + 1):
        note("joint", step, of_groups(groups_after(step, increments)))
    for method in methods:
        of_classes: list[OfClasses] = []
        of_all: list[float] = []
        for step in range(last + 1):
            groups = groups_after(step, increments)
            file = predictions(checkout, task, step_folder(checkout, task, method, increments, step))
            of_groups, values_of_classes = measure(truth, file, groups["all"])
            values = of_groups(groups)
            note(method, step, values)
            of_classes.append(values_of_classes)
            of_all.append(values["all"][primary])
        groups = groups_after(last, increments)
        note(method, last, over_steps(of_classes, increments, best, groups))
        note(method, last, {"all": {f"{primary}_avg": mean(of_all)}})
    return found


@pytest.mark.parametrize("task", MEASURES)
def test_every_value_of_the_table_is_recomputed_from_stored_predictions(done: Checkout, task: str) -> None:
    with (done.folder / "results/tables/metrics.csv").open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["task"] == task]
    written = {(task, r["method"], int(r["step"]), r["group"], r["metric"]): float(r["value"]) for r in rows}
    assert len(written) == len(rows)
    expected = recomputed(done, task)
    assert written.keys() == expected.keys()
    wrong = {key: (written[key], value) for key, value in expected.items() if abs(written[key] - value) > ROUNDING}
    assert not wrong
    for metric in (MEASURES[task][1], "forgetting"):
        assert any(value for (*_, name), value in expected.items() if name == metric), f"{metric} is 0 everywhere"
