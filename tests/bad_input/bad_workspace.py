"""A small finished run to damage: prepared datasets, splits, a memory, a base checkpoint, and the commands that read them."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import runpy
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest.mock import patch

import yaml
from raw_datasets import write_panoptic_photos, write_photos

from model.common.fingerprints import canonical_json
from model.config.reading import parse_config
from model.workflow.jobs import Training
from model.workflow.plan import Plan

PROJECT = Path(__file__).resolve().parents[2]
UNTOLD = ("logs", "work", "benchmarks", "journal", ".snakemake", ".in-use")
"""Parts of a results folder that every run may write to."""

Command = list[str]
"""A script of ``workflow_scripts`` or ``snakemake``, and its arguments; variables of the environment may stand before it, or
``limited``, which gives it little memory."""


@dataclass(frozen=True)
class Finished:
    """How a command ended: exit status, and everything it told."""

    status: int
    said: str


@dataclass(frozen=True)
class Workspace:
    """Configuration, raw data and results in one folder, all named relative to it in the configuration."""

    folder: Path

    # ------------------------------------------------------------------------------------------------------ what is there

    @property
    def results(self) -> Path:
        """Results of the workspace."""
        return self.folder / "results"

    @property
    def raw(self) -> Path:
        """Photographs in the layout of ``kind: folder``."""
        return self.folder / "photos"

    @property
    def coco(self) -> Path:
        """Photographs in COCO's panoptic layout."""
        return self.folder / "panoptic-photos"

    @property
    def config_file(self) -> Path:
        """The configuration."""
        return self.folder / "config.yaml"

    @property
    def config(self) -> dict[str, Any]:
        """Its content, to be changed and written by :meth:`configure`."""
        content: dict[str, Any] = yaml.safe_load(self.config_file.read_text())
        return content

    def configure(self, content: dict[str, Any]) -> None:
        """Replace the configuration."""
        self.config_file.write_text(yaml.safe_dump(content, sort_keys=False))

    @cached_property
    def plan(self) -> Plan:
        """The jobs of the configuration as it was at the beginning."""
        content = configuration(self.folder)
        return Plan(parse_config(content, recipes=PROJECT / "config" / "recipes"))

    def training(self, step: int, method: str = "finetuning") -> Training:
        """A training of the plan."""
        run = next(run for run in self.plan.runs if run.method == method)
        return run.trainings[step]

    @property
    def data(self) -> Path:
        """The prepared dataset that is trained on."""
        return self.results / "data" / "shapes-micro"

    @property
    def index(self) -> Path:
        """Its class index."""
        return self.data / "class_index.npz"

    def split(self, step: int) -> Path:
        """A split file."""
        return self.results / self.training(step).split.file

    @property
    def memory(self) -> Path:
        """The memory of step 1."""
        memory = self.training(1, "finetuning-replay").memory
        assert memory is not None
        return self.results / memory.file

    @property
    def base(self) -> Path:
        """The base checkpoint."""
        return self.results / self.training(0).checkpoint

    def evaluation(self, step: int) -> Path:
        """Folder of the evaluation of a step."""
        evaluation = next(e for e in self.plan.evaluations.values() if e.training == self.training(step))
        return self.results / evaluation.directory

    # ----------------------------------------------------------------------------------------------------------- commands

    def show_plan(self) -> Command:
        """What does nothing but read the configuration."""
        return ["show_plan.py", "--configfile", str(self.config_file)]

    def prepare(self, name: str = "photos", **options: Any) -> Command:
        """Prepare a dataset of the configuration, with some options changed."""
        entry = dict(configuration(self.folder)["datasets"][name])
        spec = {"name": name, "kind": entry.pop("kind"), "options": {**entry, **options}}
        manifest = self.results / "data" / name / "dataset.json"
        return ["prepare_dataset.py", "--spec", json.dumps(spec), "--manifest", str(manifest)]

    def index_classes(self) -> Command:
        """Scan the prepared dataset."""
        return ["index_classes.py", "--data", str(self.data / "dataset.json"), "--output", str(self.index)]

    def split_steps(self, step: int, **changes: Any) -> Command:
        """List the images of a step."""
        spec = canonical_json({**self.training(step).split.spec, **changes})
        return ["split_steps.py", "--spec", spec, "--index", str(self.index), "--output", str(self.split(step))]

    def select_memory(self, step: int) -> Command:
        """Choose the exemplars of a step."""
        job = self.training(step, "finetuning-replay").memory
        assert job is not None
        previous = [] if job.previous is None else ["--previous", str(self.results / job.previous.file)]
        files = ["--index", str(self.index), "--split", str(self.results / job.split.file), *previous]
        return [
            "select_memory.py",
            "--spec",
            canonical_json(job.spec),
            *files,
            "--output",
            str(self.results / job.file),
        ]

    def train(self, step: int, method: str = "finetuning", **recipe: Any) -> Command:
        """Train a step, with some keys of the resolved recipe changed."""
        training = self.training(step, method)
        spec = json.loads(canonical_json(training.spec))
        spec["recipe"] |= recipe
        folder = self.results / training.directory
        before = [] if training.previous is None else ["--previous", str(self.results / training.previous.checkpoint)]
        replayed = [] if training.memory is None else ["--memory", str(self.results / training.memory.file)]
        read = ["--data", str(self.data / "dataset.json"), "--split", str(self.results / training.split.file)]
        written = [
            *("--checkpoint", str(folder / "checkpoint.pt"), "--record", str(folder / "train.json")),
            *("--curves", str(folder / "train.csv"), "--work", str(self.results / "work" / training.directory)),
        ]
        return ["train_step.py", "--spec", json.dumps(spec), *read, *before, *replayed, *written, "--device", "cpu"]

    def evaluate(self, step: int, checkpoint: Path) -> Command:
        """Evaluate a checkpoint as if it were that of a step."""
        evaluation = next(e for e in self.plan.evaluations.values() if e.training == self.training(step))
        folder = self.evaluation(step)
        written = ("record", "evaluation.json"), ("counts", "counts.npz"), ("predictions", "predictions.npz")
        command = ["evaluate_step.py", "--spec", canonical_json(evaluation.spec), "--checkpoint", str(checkpoint)]
        command += ["--data", str(self.data / "dataset.json"), "--device", "cpu"]
        return command + [text for option, name in written for text in (f"--{option}", str(folder / name))]

    def tables(self) -> Command:
        """Put all evaluations into tables."""
        config = canonical_json(self.plan.config.model_dump(exclude_defaults=True))
        files = ["--results", str(self.results), "--folder", str(self.results / "tables")]
        published = str(PROJECT / "config" / "published_results.csv")
        return ["make_tables.py", "--config", config, *files, "--published", published]

    def gallery(self) -> Command:
        """Draw what the base step predicts."""
        command = ["draw_gallery.py", "--data", str(self.data / "dataset.json"), "--classes", "[[0, 1, 2, 3]]"]
        predictions = str(self.evaluation(0) / "predictions.npz")
        return [
            *command,
            "--predictions",
            predictions,
            "--title",
            "base",
            "--output",
            str(self.results / "gallery.png"),
        ]

    def snakemake(self, *targets: str) -> Command:
        """The whole workflow as a user starts it, in a process of its own."""
        return ["snakemake", *targets, "--configfile", str(self.config_file), "--directory", str(self.folder)]

    def run(self, command: Command) -> Finished:
        """Run a command; scripts in this process, which has torch loaded already."""
        name, *arguments = command
        if "=" in name:
            with patch.dict(os.environ, [name.split("=", 1)]):
                return self.run(arguments)
        if name == "limited":
            start = ["bash", "-c", 'ulimit -v 8000000; exec "$@"', "", sys.executable]
            start += [str(PROJECT / "workflow_scripts" / arguments[0]), *arguments[1:]]
            environment = {**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
            done = subprocess.run(start, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
            return Finished(done.returncode, done.stdout + done.stderr)
        if name == "snakemake":
            start = [sys.executable, "-m", name, "--snakefile", str(PROJECT / "Snakefile"), "--cores", "1", *arguments]
            environment = {**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
            done = subprocess.run(start, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
            return Finished(done.returncode, done.stdout + done.stderr)
        output, before = io.StringIO(), sys.argv
        sys.argv = [name, *arguments]
        try:
            with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output), contextlib.chdir(PROJECT):
                runpy.run_path(str(PROJECT / "workflow_scripts" / name), run_name="__main__")
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        finally:
            sys.argv = before
        return Finished(status, output.getvalue())

    # ------------------------------------------------------------------------------------------------------------- state

    def copy(self, folder: Path) -> Workspace:
        """The same state in another folder."""
        shutil.copytree(self.folder, folder)
        copied = Workspace(folder)
        copied.configure(configuration(folder))
        return copied

    def computed(self) -> dict[str, str]:
        """Hash of every file that a failing command has to leave as it is."""
        files = (path for path in self.folder.rglob("*") if path.is_file())
        return {
            name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in files
            if not set(UNTOLD) & set((name := path.relative_to(self.folder).as_posix()).split("/"))
        }


def configuration(folder: Path) -> dict[str, Any]:
    """The micro configuration with one iteration a step, and two datasets of photographs."""
    content: dict[str, Any] = yaml.safe_load((PROJECT / "config" / "micro.yaml").read_text())
    recipe = yaml.safe_load((PROJECT / "config" / "recipes" / "deeplabv3-micro.yaml").read_text())
    recipe["base"]["iterations"] = recipe["increment"]["iterations"] = 1
    content["results"] = str(folder / "results")
    content["datasets"]["shapes-micro"] |= {"train_images": 16, "val_images": 2}
    content["recipes"] = {"deeplabv3-micro": recipe}
    content["experiments"][0]["methods"] = ["finetuning", "finetuning-replay"]
    content["datasets"]["photos"] = {"kind": "folder", "root": str(folder / "photos"), "things": ["ball", "box"]}
    content["datasets"]["panoptic-photos"] = {
        **{"kind": "coco", "root": str(folder / "panoptic-photos")},
        **{"train": "some", "val": "others"},
    }
    parts = {"instances": "instances", "saliency": "saliency"}
    content["datasets"]["photos"]["splits"] = {"train": dict(parts), "val": dict(parts)}
    return content


def build(folder: Path) -> Workspace:
    """Make everything that the cases damage; each command has to succeed."""
    workspace = Workspace(folder)
    folder.mkdir(parents=True, exist_ok=True)
    workspace.configure(configuration(folder))
    write_photos(workspace.raw)
    write_panoptic_photos(workspace.coco)
    for command in (
        *(workspace.prepare(name) for name in ("shapes-micro", "photos", "panoptic-photos")),
        *(workspace.index_classes(), workspace.split_steps(0), workspace.split_steps(1)),
        *(workspace.select_memory(1), workspace.train(0), workspace.evaluate(0, workspace.base)),
    ):
        done = workspace.run(command)
        assert done.status == 0, f"{command[0]}: {done.said}"
    shutil.rmtree(workspace.results / "work")  # or finished trainings would be taken from there
    return workspace
