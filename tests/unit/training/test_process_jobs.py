"""The command that trains, started in several processes: what it writes, and how it ends."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
import pytest
from method_jobs import PROJECT, RUNS, Workshop

from model.training.checkpoint import load_checkpoint

ITERATIONS = 12
ENDLESS = 100_000
SCRIPTS = PROJECT / "workflow_scripts"
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("workshop"))


@pytest.fixture
def start(workshop: Workshop, tmp_path: Path) -> Start:
    """Starts a base step in some processes; its files are in ``tmp_path``."""

    def started(count: int, iterations: int = ITERATIONS, *more: str) -> subprocess.Popen[str]:
        training = RUNS["semantic", "finetuning"].trainings[0]
        # Poly goes down with the number of iterations; a constant rate makes the first iterations of all of them alike.
        recipe = {**training.spec["recipe"], "iterations": iterations, "schedule": {"name": "constant"}}
        files = workshop.files(training)
        read = ["--data", str(files.data), "--split", str(files.split), "--device", "cpu"]
        outputs = {"checkpoint": "checkpoint.pt", "record": "train.json", "curves": "train.csv", "work": "work"}
        written = [text for name, file in outputs.items() for text in (f"--{name}", str(tmp_path / file))]
        spec = json.dumps({**training.spec, "recipe": recipe})
        train = [sys.executable, str(SCRIPTS / "train_step.py"), "--spec", spec, *read, *written, *more]
        several = [sys.executable, str(SCRIPTS / "start_processes.py"), str(count)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT)}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen([*several, *train], env=environment, **pipes)  # type: ignore[call-overload,no-any-return]

    return started


def first_losses(folder: Path) -> list[float]:
    """Before rounding, which batch normalisation enlarges in single precision, tells two trainings apart."""
    with (folder / "train.csv").open(encoding="utf-8") as file:
        return [float(row["total"]) for row in csv.DictReader(file)][:3]


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def wait_for_snapshot(folder: Path, process: subprocess.Popen[str]) -> None:
    while not list(folder.glob("work/snapshots/snapshot-*.pt")) and process.poll() is None:
        time.sleep(0.05)


def finish(process: subprocess.Popen[str]) -> Sequence[str]:
    said, errors = process.communicate()
    assert process.returncode == 0, errors
    return lines(said)


def test_a_training_in_two_processes_is_written_once_like_that_of_one(start: Start, tmp_path: Path) -> None:
    said = finish(start(2))
    assert sum(f"iteration {ITERATIONS}/{ITERATIONS}" in line for line in said) == 1
    record = json.loads((tmp_path / "train.json").read_text())
    assert record["machine"]["processes"] == 2 and record["iterations"] == ITERATIONS
    assert load_checkpoint(tmp_path / "checkpoint.pt").step == 0
    ours = first_losses(tmp_path)
    again = finish(start(2))  # it is there already, and no process waits for another one
    assert any("had finished before" in line for line in again)
    for file in ("checkpoint.pt", "train.json", "train.csv"):
        (tmp_path / file).unlink()
    finish(start(1, ITERATIONS, "--work", str(tmp_path / "other")))
    assert first_losses(tmp_path) == pytest.approx(ours, rel=1e-4)


def test_a_request_to_stop_reaches_all_and_one_process_may_continue(start: Start, tmp_path: Path) -> None:
    stopped = start(2, ENDLESS, "--snapshot-minutes", "0")
    wait_for_snapshot(tmp_path, stopped)
    (child,) = [c for c in psutil.Process(stopped.pid).children() if c.environ()["RANK"] == "1"]
    child.send_signal(signal.SIGTERM)  # one process alone is asked: all stop after the same iteration
    _, errors = stopped.communicate()
    assert stopped.returncode == 128 + signal.SIGTERM
    (line,) = lines(errors)
    assert line.startswith("stopped by SIGTERM after iteration") and "run it again to continue" in line
    done = int(line.split("after iteration ")[1].split()[0])
    (newest, *_) = sorted(tmp_path.glob("work/snapshots/snapshot-*.pt"), reverse=True)
    assert f"-{done:09d}-" in newest.name

    continued = start(1, ENDLESS, "--snapshot-minutes", "100")
    assert continued.stdout is not None
    said = [continued.stdout.readline() for _ in range(2)]
    continued.send_signal(signal.SIGTERM)
    continued.communicate()
    assert any(f"continuing after iteration {done}" in line for line in said)


def test_a_killed_process_ends_the_job_with_its_own_error(start: Start, tmp_path: Path) -> None:
    process = start(2, ENDLESS, "--snapshot-minutes", "0")
    wait_for_snapshot(tmp_path, process)
    (child,) = [c for c in psutil.Process(process.pid).children() if c.environ()["RANK"] == "1"]
    child.kill()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGKILL
    (line,) = lines(errors)
    assert line.startswith("error: process 2 of 2 was killed by SIGKILL")
    assert list(tmp_path.glob("work/snapshots/snapshot-*.pt")) and not (tmp_path / "checkpoint.pt").exists()


def test_a_batch_that_cannot_be_shared_out_is_refused_in_one_line(start: Start) -> None:
    process = start(3)
    _, errors = process.communicate()
    assert process.returncode == 1
    (line,) = lines(errors)
    assert line == (
        "error: 4 images cannot be shared out evenly among 3 processes: train on a number of GPUs that divides 4"
    )
