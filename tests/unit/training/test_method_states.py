"""Every method of the registry: what it freezes stays as it is, its network and state survive being saved and loaded, a stopped
step ends as if it had not been stopped, and half precision does no harm.

The jobs are those of the configuration that has all methods, on a few small images and for a few iterations.
"""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
import yaml

from model.common.json_files import write_checked
from model.config.reading import parse_config
from model.config.recipes import Recipes
from model.data.prepared.class_index import ClassIndex, build_class_index
from model.data.prepared.dataset import PreparedDataset
from model.data.sources.shapes import Shapes
from model.memory.selection import make_memory
from model.methods import registry as methods
from model.methods.base import StepContext
from model.methods.registry import METHODS
from model.networks import registry as networks
from model.splits.selection import make_split
from model.training.checkpoint import load_checkpoint, load_network, save_checkpoint
from model.training.interruption import Interrupted
from model.training.job import JobFiles, Outcome, run_job
from model.training.loop import train
from model.training.resume import ResumeKey, Snapshots
from model.training.spec import parse_spec
from model.workflow.jobs import MemoryJob, Split, Training
from model.workflow.plan import Plan

PROJECT = Path(__file__).parents[3]
CPU = torch.device("cpu")
IMAGES = {"train_images": 16, "val_images": 1, "stuff": 4, "things": 4, "size": [48, 48]}
SHORT = {"base": {"iterations": 2}, "increment": {"iterations": 4}, "batch_size": 4}
MASK_NETWORK = {"channels": 32, "queries": 6, "encoder_feed_forward": 32, "decoder_feed_forward": 32, "points": 32}
STOP_AFTER = 2


def shortened(name: str) -> dict[str, Any]:
    """A recipe of the demonstration, for a few iterations; mask networks, which are slow, are smaller too."""
    book = Recipes(PROJECT / "config" / "recipes")
    recipe = book.content(book.files[name])
    network = {**recipe["network"], **(MASK_NETWORK if recipe["family"] == "mask" else {})}
    if "prompts" in network:
        network["prompts"] = 3
    return {**recipe, **SHORT, "network": network}


def make_plan() -> Plan:
    config = yaml.safe_load((PROJECT / "config" / "demo-methods.yaml").read_text(encoding="utf-8"))
    config["datasets"] = {"shapes": {"kind": "shapes", **IMAGES}}
    config["recipes"] = {entry["recipe"]: shortened(entry["recipe"]) for entry in config["experiments"]}
    for entry in config["experiments"]:
        entry["scenarios"], entry["seeds"] = ["4-2"], [0]
        if "memory" in entry:
            entry["memory"] = {**entry["memory"], "size": 5}
        if entry.get("task", "semantic") == "semantic" and "finetuning" in entry["methods"]:
            entry["methods"] = [*entry["methods"], "every-hook"]
    return Plan(parse_config(config))


METHODS["per-pixel"]["every-hook"] = "every_hook:EveryHook"  # of tests/support: uses all that a method can use
PLAN = make_plan()
RUNS = {(run.task, run.method): run for run in PLAN.runs if len(run.trainings) > 1}


class Notes:
    """A reporter that stops the process's training after an iteration."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.stop_after = stop_after

    def iteration(self, iteration: int, learning_rate: float, terms: dict[str, float]) -> None:
        if iteration == self.stop_after:
            os.kill(os.getpid(), signal.SIGTERM)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


class Workshop:
    """Makes what a training needs, each thing once, as the rules of the workflow do."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        Shapes(**IMAGES).prepare(self.data, "shapes", 1)
        self.index: ClassIndex = build_class_index(PreparedDataset.open(self.data), "train", 1)

    def split(self, job: Split) -> Path:
        file = self.folder / job.file
        if not file.exists():
            write_checked(file, make_split(self.index, job.step, job.task, job.setting))
        return file

    def memory(self, job: MemoryJob) -> Path:
        file = self.folder / job.file
        if not file.exists():
            previous = None if job.previous is None else json.loads(self.memory(job.previous).read_text())
            split = json.loads(self.split(job.split).read_text())
            options = {"selection": job.selection, "size": job.size, "seed": job.seed}
            write_checked(file, make_memory(previous, split, self.index, **options))
        return file

    def files(self, training: Training) -> JobFiles:
        previous = None if training.previous is None else self.checkpoint(training.previous)
        memory = None if training.memory is None else self.memory(training.memory)
        return JobFiles(self.data, self.split(training.split), previous, memory)

    def checkpoint(self, training: Training) -> Path:
        file = self.folder / training.checkpoint
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            save_checkpoint(file, self.train(training).checkpoint)
        return file

    def train(self, training: Training, stop_after: int | None = None, snapshots: Path | None = None) -> Outcome:
        spec, files = parse_spec(json.dumps(training.spec)), self.files(training)
        kept = None if snapshots is None else Snapshots(snapshots, ResumeKey({}))
        with patch("model.training.step.train", watched):
            return run_job(spec, files, device=CPU, make_reporter=lambda _: Notes(stop_after), snapshots=kept)


def watched(context: StepContext[Any], **options: Any) -> None:
    """The loop, which must not change what a method has frozen, nor statistics of what it keeps in evaluation mode."""
    network = context.network
    still = {id(buffer) for module in options["evaluation_modules"] for buffer in module.buffers()}
    frozen = [p for p in network.parameters() if not p.requires_grad] + [b for b in network.buffers() if id(b) in still]
    trained = [p for p in network.parameters() if p.requires_grad]
    before = [tensor.detach().clone() for tensor in (*frozen, *trained)]
    train(context, **options)
    same = [torch.equal(tensor, value) for tensor, value in zip((*frozen, *trained), before, strict=True)]
    assert all(same[: len(frozen)]) and not all(same[len(frozen) :])


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("workshop"))


def same(a: Any, b: Any) -> bool:
    """Equality of nested plain values and tensors, bit for bit; NaN equals NaN."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a.nan_to_num(), b.nan_to_num())
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


@pytest.mark.parametrize(("task", "method"), RUNS)
def test_a_stopped_step_ends_as_if_it_had_run_in_one_go(
    workshop: Workshop, tmp_path: Path, task: str, method: str
) -> None:
    second = RUNS[task, method].trainings[2]
    whole = workshop.train(second)
    with pytest.raises(Interrupted):
        workshop.train(second, STOP_AFTER, tmp_path)
    resumed = workshop.train(second, snapshots=tmp_path)
    assert resumed.facts["resumed_at"] == STOP_AFTER
    assert same(resumed.checkpoint.network, whole.checkpoint.network)
    assert same(resumed.checkpoint.method_state, whole.checkpoint.method_state)


@pytest.mark.parametrize(("task", "method"), RUNS)
def test_three_grown_steps(workshop: Workshop, task: str, method: str) -> None:
    """Every checkpoint tells how to build the network that it fills, which knows all classes so far and answers no other one."""
    for training in RUNS[task, method].trainings:
        file, step, recipe = workshop.checkpoint(training), training.split.step, training.spec["recipe"]
        checkpoint = load_checkpoint(file)
        assert (checkpoint.step, checkpoint.classes) == (step.index, step.seen)
        arguments = dict(checkpoint.network_arguments)
        network = networks.build(arguments.pop("name"), checkpoint.classes_per_step, arguments).eval()
        load_network(network, checkpoint.network, file)
        assert all(torch.isfinite(value).all() for value in checkpoint.network.values() if value.is_floating_point())
        if recipe["family"] == "per-pixel":
            rule = methods.build(**training.spec["method"])
            with torch.no_grad():
                answered = rule.predict(network(torch.randn(2, 3, 48, 48)), step)
            assert answered.shape == (2, 48, 48) and answered.min() >= 0 and answered.max() <= len(step.seen)


@pytest.mark.parametrize(("task", "method"), RUNS)
def test_the_state_of_a_method_is_read_back_as_it_was_written(
    workshop: Workshop, tmp_path: Path, task: str, method: str
) -> None:
    first = RUNS[task, method].trainings[1]
    outcome = workshop.train(first)
    save_checkpoint(tmp_path / "checkpoint.pt", outcome.checkpoint)
    assert same(load_checkpoint(tmp_path / "checkpoint.pt").method_state, outcome.checkpoint.method_state)


@pytest.mark.parametrize(("task", "method"), RUNS)
def test_a_step_in_half_precision_stays_finite(workshop: Workshop, task: str, method: str) -> None:
    """The loop refuses losses and gradients that are not finite; what comes out of it is looked at here."""
    first = RUNS[task, method].trainings[1]
    outcome = workshop.train(
        replace(first, spec={**first.spec, "recipe": {**first.spec["recipe"], "precision": "bf16"}})
    )
    values = [value for value in outcome.checkpoint.network.values() if value.is_floating_point()]
    assert values and all(torch.isfinite(value).all() for value in values)


def test_methods_keep_something(workshop: Workshop) -> None:
    """Otherwise the tests of states would compare nothing; what each method keeps is tested with it."""
    runs = {key: workshop.checkpoint(run.trainings[1]) for key, run in RUNS.items()}
    assert sum(bool(load_checkpoint(file).method_state) for file in runs.values()) > 1
