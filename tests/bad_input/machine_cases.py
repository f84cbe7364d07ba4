"""Full disks, folders that cannot be written to, and two workflows at once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from bad_case import Case, Section
from bad_workspace import Command, Workspace
from raw_cases import halve

from model.workflow.results_folder import ResultsLock

Damage = Callable[[Workspace], Command]


def _mount(folder: Path, options: str) -> None:
    """A small file system in memory; the test's end unmounts it."""
    if os.geteuid() != 0:
        pytest.skip("mounting a file system needs root")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")


def disk_full(workspace: Workspace) -> Command:
    """The folder of the step has room for the record, but not for the checkpoint."""
    folder = workspace.results / workspace.training(1).directory
    folder.mkdir(parents=True)
    _mount(folder, "size=64k")
    return workspace.train(1)


def read_only(workspace: Workspace) -> Command:
    """The folder of the step is on a disk that is mounted read-only."""
    folder = workspace.results / workspace.training(1).directory
    folder.mkdir(parents=True)
    _mount(folder, "ro")
    return workspace.train(1)


def file_in_the_way(workspace: Workspace) -> Command:
    """A file has the name of the folder that the step is written to."""
    folder = workspace.results / workspace.training(1).directory
    folder.parent.mkdir(parents=True)
    folder.write_text("")
    return workspace.train(1)


def no_minutes(workspace: Workspace) -> Command:
    """The environment has a word where a number is expected."""
    return ["SEGUE_SNAPSHOT_MINUTES=abc", *workspace.train(1)]


def keep_some(workspace: Workspace) -> Command:
    """The environment asks for a retention that does not exist."""
    return ["SEGUE_KEEP=some", "check_config.py", "--configfile", str(workspace.config_file)]


def unknown_tracker(workspace: Workspace) -> Command:
    """The environment names a program for curves that there is not."""
    return ["SEGUE_TRACKERS=wandbb", *workspace.train(1)]


def one_image_at_a_time(workspace: Workspace) -> Command:
    """Images are to pass a network one by one that normalises over all of them."""
    return [*workspace.train(0), "--micro-batch", "1"]


def enormous_images(workspace: Workspace) -> Command:
    """Photographs are to be evaluated at a size that the memory is not enough for."""
    command = workspace.evaluate(0, workspace.base)
    place = command.index("--spec") + 1
    command[place] = json.dumps({**json.loads(command[place]), "size": 100_000})
    return ["limited", *command]


_HELD: list[ResultsLock] = []


def occupied(workspace: Workspace) -> Command:
    """Another workflow, started in another folder, writes to the same results."""
    lock = ResultsLock(workspace.results)
    lock.acquire()
    _HELD.append(lock)  # as long as the process of the tests lives
    return workspace.snakemake("prepare_all")


def locked(workspace: Workspace) -> Command:
    """A lock left behind by a workflow that was killed."""
    locks = workspace.folder / ".snakemake" / "locks"
    locks.mkdir(parents=True)
    memory = workspace.training(2, "finetuning-replay").memory
    assert memory is not None
    (locks / "0.output.lock").write_text(f"{workspace.results / memory.file}\n")
    return workspace.snakemake("prepare_all")


def photograph_in_the_workflow(workspace: Workspace) -> Command:
    """A damaged photograph is met by a job of the workflow."""
    shutil.rmtree(workspace.results / "data" / "photos")
    halve(workspace.raw / "images" / "two.jpg")
    content = workspace.config
    content["experiments"][0] |= {"dataset": "photos", "scenarios": ["2-1"]}
    workspace.configure(content)
    return workspace.snakemake("prepare_all")


MACHINE = Section(
    "Disks, folders and several workflows",
    (
        Case(
            "The disk is full",
            disk_full,
            "…checkpoint.pt cannot be written: no space left on device; free some space; the workflow resumes "
            "where it stopped",
            "There is no space for a result. Existing files are intact: files appear completely or not at all.",
            "Free some space and start the workflow again.",
        ),
        Case(
            "Results cannot be written",
            read_only,
            "… cannot be written: read-only file system; make the folder writable, or name another one under "
            "'results' in the "
            "configuration",
            "The folder belongs to somebody else, or its disk is mounted read-only.",
            "Change the permissions, or write somewhere else.",
        ),
        Case(
            "There is a file where a folder is expected",
            file_in_the_way,
            "… cannot be written: …; there is a file where a folder is expected; move it away",
            "Something else has the name of a folder that the results need.",
            "Move the file away.",
        ),
        Case(
            "The time between snapshots is not a number",
            no_minutes,
            "SEGUE_SNAPSHOT_MINUTES is 'abc': expected minutes between two snapshots, such as 10",
            "The variable sets how often a training saves its state.",
            "Set it to a number, or unset it.",
        ),
        Case(
            "Which checkpoints to keep is neither all nor last",
            keep_some,
            "SEGUE_KEEP is 'some': expected 'all', or 'last' to remove checkpoints that nothing needs any more",
            "The variable says whether a workflow that has succeeded removes checkpoints.",
            "Set it to one of the two, or unset it.",
        ),
        Case(
            "Curves are to go to an unknown program",
            unknown_tracker,
            "SEGUE_TRACKERS: unknown tracker 'wandbb'; did you mean 'wandb'?",
            "The variable names what shows curves besides TensorBoard: `wandb`, `mlflow`.",
            "Correct it, or unset it; `docs/cluster.md` explains it.",
        ),
        Case(
            "Smaller passes would change the result",
            one_image_at_a_time,
            "micro_batch 1 would change the result: in training '…' normalises over the images of a pass; leave micro_batch out "
            "and use more GPUs, or take a recipe whose normalisation is frozen",
            "`micro_batch` is a setting of the machine, and such settings have no effect on results.",
            "Give the training more GPUs, over which batch normalisation is synchronised.",
        ),
        Case(
            "Memory runs out",
            enormous_images,
            "evaluate_step.py has not enough memory (…), reading …: give the job more (mem_mb of the profile), run fewer jobs at "
            "once (--cores), or take smaller images or batches",
            "The job asked for more main memory than the machine has. One that the system has killed before it could say so is "
            "named under *What went wrong* (signal 9).",
            "Follow one of the three suggestions; a training goes on from its last snapshot.",
        ),
        Case(
            "Two workflows write to one results folder",
            occupied,
            "…results: another workflow is writing to this folder (process … on … since …); wait until it has "
            "ended, or name "
            "another folder under 'results' in the configuration",
            "Two workflows would overwrite each other's files. The lock ends with the workflow, however it ends.",
            "Wait, or use another folder.",
            prefix="",
        ),
        Case(
            "Snakemake finds its working folder locked",
            locked,
            "Error: Directory cannot be locked. Please make sure that no other Snakemake process is trying to create the same "
            "files in the following directory:",
            "Another workflow is running in the same working folder, or one was killed there before it could remove its lock.",
            "If none is running, remove the lock with `snakemake --unlock` (and the same `--configfile`), then start again.",
            prefix="",
        ),
        Case(
            "A job of the workflow runs into a bad file",
            photograph_in_the_workflow,
            "…photos/images/two.jpg cannot be read as an image (…): copy or unpack it again, or take it out of "
            "the dataset  "
            "[…logs/data/photos/prepare.log]",
            "The last messages of failed jobs are collected at the end of Snakemake's output, under *What went "
            "wrong*, with their logs.",
            "Look up the line on this page, correct what it names, and run the same command again. Finished jobs "
            "are kept.",
        ),
    ),
)
