"""The trainings of every method of the registry, on a few small images and for a few iterations.

The jobs are those of the configuration that has all methods.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import yaml

from model.common.json_files import write_checked
from model.config.reading import parse_config
from model.config.recipes import Recipes
from model.data.prepared.class_index import ClassIndex, build_class_index
from model.data.prepared.dataset import PreparedDataset
from model.data.sources.shapes import Shapes
from model.memory.selection import make_memory
from model.methods.base import StepContext
from model.methods.registry import METHODS
from model.splits.selection import make_split
from model.training.checkpoint import save_checkpoint
from model.training.job import JobFiles, Outcome, run_job
from model.training.loop import train
from model.training.resume import ResumeKey, Snapshots
from model.training.spec import parse_spec
from model.workflow.jobs import MemoryJob, Split, Training
from model.workflow.plan import Plan

PROJECT = Path(__file__).parents[2]
CPU = torch.device("cpu")
IMAGES = {"train_images": 16, "val_images": 1, "stuff": 4, "things": 4, "size": [48, 48]}
SHORT = {"base": {"iterations": 2}, "increment": {"iterations": 4}, "batch_size": 4}
MASK_NETWORK = {"channels": 32, "queries": 6, "encoder_feed_forward": 32, "decoder_feed_forward": 32, "points": 32}


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
