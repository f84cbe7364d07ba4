"""What runs again after which change: exactly what the change concerns, and nothing else.

Every case changes a copy of a project in which the micro configuration has run, and asks for the plan.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from checkout import MICRO, Checkout, fresh_checkout, project_files
from project_changes import EVERYTHING, TRAINING, check, configure, edit, entry, expect, short, steps

pytestmark = pytest.mark.xdist_group("micro")


@pytest.fixture
def checkout(micro: Checkout, tmp_path: Path) -> Checkout:
    return micro.copy(tmp_path / "project")


def touch(path: Path) -> None:
    """Newer than everything, with the same content."""
    later = path.stat().st_mtime + 10_000
    os.utime(path, (later, later))


def backwards(value: object) -> object:
    """The same YAML with the keys of every mapping in reverse."""
    if isinstance(value, dict):
        return {key: backwards(value[key]) for key in reversed(value)}
    return [backwards(item) for item in value] if isinstance(value, list) else value


# --------------------------------------------------------------------------------------------------------- nothing re-runs


def reorder_keys(folder: Path) -> list[str]:
    for file in (MICRO, "config/recipes/deeplabv3-micro.yaml"):
        path = folder / file
        path.write_text(yaml.safe_dump(backwards(yaml.safe_load(path.read_text())), sort_keys=False))
    return []


def edit_comments(folder: Path) -> list[str]:
    for file in (
        "model/methods/pixel/mib.py",
        "model/losses/distillation.py",
        "model/training/loop.py",
        "model/evaluation/evaluators/pixel_prediction.py",
    ):
        edit(folder, file, r'\A"""', '"""Edited. ')
        path = folder / file
        path.write_text(path.read_text() + "\n# A remark at the end.\n")
    return []


def touch_everything_tracked(folder: Path) -> list[str]:
    for name in project_files():
        touch(folder / name)
    return []


def touch_a_large_checkpoint_and_a_large_split(folder: Path) -> list[str]:
    (checkpoint,) = (folder / "results").glob("base/*/*_4-classes_*/seed0/checkpoint.pt")
    assert checkpoint.stat().st_size > 1_000_000
    touch(checkpoint)
    for split in (folder / "results/splits").rglob("*.json"):
        touch(split)
    return []


def other_machine(folder: Path) -> list[str]:
    profile = folder / "profiles/other/profile.yaml"
    profile.parent.mkdir()
    text = (folder / "profiles/default/profile.yaml").read_text()
    profile.write_text(text.replace("keep-going: true", "keep-going: false").replace("gpu: 1", "gpu: 7"))
    return [
        *("--workflow-profile", "profiles/other"),
        *("--set-threads", "train_step=2", "evaluate_step=2"),
        *("--set-resources", "train_step:mem_mb=1234", "train_step:gpu=2", "train_base:runtime=5"),
    ]


def add_a_method(folder: Path) -> list[str]:
    (folder / "model/methods/mine.py").write_text((folder / "model/methods/pixel/finetuning.py").read_text())
    edit(
        folder,
        "model/methods/registry.py",
        r'^        "mib": .*$',
        r'\g<0>\n        "mine": "model.methods.mine:Finetuning",',
    )
    return []


@pytest.mark.parametrize(
    "change",
    [
        reorder_keys,
        edit_comments,
        touch_everything_tracked,
        touch_a_large_checkpoint_and_a_large_split,
        other_machine,
        add_a_method,
    ],
    ids=lambda change: change.__name__,
)
def test_nothing_runs_again(checkout: Checkout, change: Callable[[Path], list[str]]):
    assert checkout.planned(*change(checkout.folder)) == set()


# ---------------------------------------------------------------------------------------------------- exactly that re-runs


def hyper_parameter_of_step_2(folder: Path) -> None:
    configure(folder, lambda c: entry(c, "mib").update(steps={2: {"distillation_weight": 3.0}}))


def hyper_parameter_of_step_1(folder: Path) -> None:
    configure(folder, lambda c: entry(c, "mib").update(steps={1: {"distillation_weight": 3.0}}))


def method_file(folder: Path) -> None:
    edit(folder, "model/methods/pixel/lwf.py", r"\Z", "\nDEFAULT = 1\n")


def loss_module(folder: Path) -> None:
    edit(folder, "model/losses/distillation.py", r"\Z", "\nDEFAULT = 1\n")


def loss_module_of_mib(folder: Path) -> None:
    edit(folder, "model/losses/background_losses.py", r"\Z", "\nDEFAULT = 1\n")


def loss_module_of_all(folder: Path) -> None:
    edit(folder, "model/losses/classification.py", r"\Z", "\nDEFAULT = 1\n")


def evaluation_code(folder: Path) -> None:
    edit(folder, "model/evaluation/metrics/mean_iou.py", r"\Z", "\nDEFAULT = 1\n")


def protocol(folder: Path) -> None:
    edit(
        folder,
        "model/evaluation/protocols.py",
        r'labelled_background=BackgroundPolicy\("ignore", "count"\)',
        'labelled_background=BackgroundPolicy("background", "count")',
    )


def training_loop(folder: Path) -> None:
    edit(folder, "model/training/loop.py", r"\Z", "\nDEFAULT = 1\n")


def increment_of_the_recipe(folder: Path) -> None:
    edit(folder, "config/recipes/deeplabv3-micro.yaml", r"increment: \{iterations: \d+", "increment: {iterations: 7")


CASES = {
    hyper_parameter_of_step_2: expect("mib/step2"),
    hyper_parameter_of_step_1: expect(*steps("mib")),
    method_file: expect(*steps("lwf")),
    loss_module: expect(*steps("lwf")),
    loss_module_of_mib: expect(*steps("mib")),
    loss_module_of_all: expect(*EVERYTHING),
    evaluation_code: expect(evaluated=EVERYTHING),
    protocol: expect(evaluated=EVERYTHING),
    training_loop: expect(*EVERYTHING),
    increment_of_the_recipe: expect(*steps("finetuning", "finetuning-replay", "mib", "lwf")),
}


@pytest.mark.parametrize("change", CASES, ids=lambda change: change.__name__)
def test_only_what_is_concerned_runs_again(checkout: Checkout, change: Callable[[Path], None]):
    change(checkout.folder)
    check(checkout.planned(), CASES[change])


def test_a_new_seed_runs_its_own_jobs(checkout: Checkout):
    configure(checkout.folder, lambda c: c["experiments"][0].update(seeds=[0, 1]))
    planned = checkout.planned()
    of_jobs = {job for job in planned if job.rule in ("train_base", "train_step", "evaluate_step", "select_memory")}
    assert of_jobs and all("/seed1/" in job.output for job in of_jobs)
    assert {short(job) for job in planned if job.rule in TRAINING} == set(EVERYTHING)


def test_a_new_method_runs_its_own_jobs(checkout: Checkout):
    configure(checkout.folder, lambda c: c["experiments"][0]["methods"].append("ilt"))
    check(checkout.planned(), expect(*steps("ilt")))


METHOD_WITH_A_DECISION_THRESHOLD = '''"""Fine-tuning with a decision threshold."""

from dataclasses import dataclass

from model.methods.base import prediction_field
from model.methods.pixel.finetuning import Finetuning


@dataclass(frozen=True)
class Thresholded(Finetuning):
    threshold: float = prediction_field(0.0)

    def predict(self, outputs, step):
        best, position = outputs.logits.softmax(dim=1).max(dim=1)
        return position * (best >= self.threshold)
'''


def test_a_hyper_parameter_of_the_decision_re_evaluates_its_method_and_trains_nothing(checkout: Checkout):
    (checkout.folder / "model/methods/thresholded.py").write_text(METHOD_WITH_A_DECISION_THRESHOLD)
    row = r'\g<0>\n        "thresholded": "model.methods.thresholded:Thresholded",'
    edit(checkout.folder, "model/methods/registry.py", r'^        "mib": .*$', row)
    configure(checkout.folder, lambda c: c["experiments"][0]["methods"].append("thresholded"))
    added = checkout.planned()
    assert {short(job) for job in added if job.rule in TRAINING} == set(steps("thresholded"))
    done = checkout.snakemake()
    assert done.returncode == 0, done.stderr

    parameters = {"threshold": 0.5}
    configure(checkout.folder, lambda c: entry(c, "thresholded").update(hyper_parameters=parameters))
    check(checkout.planned(), expect(evaluated=("base", *steps("thresholded"))))


def test_results_from_the_future_do_no_harm(tmp_path: Path):
    checkout = fresh_checkout(tmp_path / "project")
    assert checkout.snakemake("--", "prepare_all").returncode == 0
    for file in (checkout.folder / "results").rglob("*.*"):
        os.utime(file, (2_000_000_000, 2_000_000_000))
    content = yaml.safe_load((checkout.folder / MICRO).read_text())
    content["experiments"][0]["memory"]["size"] = 5
    (checkout.folder / "other.yaml").write_text(yaml.safe_dump(content))
    done = checkout.snakemake("--", "prepare_all", config="other.yaml")
    assert done.returncode == 0, done.stderr + done.stdout
    assert "rule select_memory" in done.stderr + done.stdout and "rule split_steps" not in done.stderr + done.stdout
