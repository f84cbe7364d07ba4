"""The workflow through a real SLURM: the same table, GPUs apart, and a time limit survived."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import combinations
from pathlib import Path
from typing import TypeVar

import pytest
import yaml
from checkout import MICRO, Checkout, fresh_checkout
from one_node import Cluster, one_node_cluster, why_not

T = TypeVar("T")
REASON = why_not()
pytestmark = [
    pytest.mark.xdist_group("slurm"),
    pytest.mark.skipif(REASON is not None, reason=f"no SLURM here: {REASON}"),
]
PATIENCE = 1800.0
"""Seconds after which something hangs; nothing is measured by it."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with one_node_cluster() as running:
        yield running


class Running:
    """A workflow that SLURM works on, in a folder of its own."""

    def __init__(self, checkout: Checkout, *arguments: str, **environment: str) -> None:
        command = [sys.executable, "-m", "snakemake", "--workflow-profile", "profiles/slurm-ci", *arguments]
        inherited = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "SEGUE_GPUS")}
        self.folder = checkout.folder
        self._output = (checkout.folder / "snakemake.log").open("w+")
        self.process = subprocess.Popen(
            command,
            cwd=checkout.folder,
            env={**inherited, "OMP_NUM_THREADS": "1", **environment},
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def said(self) -> str:
        """Everything written so far."""
        return (self.folder / "snakemake.log").read_text()

    def wait(self) -> int:
        """Wait for its end; returns the exit status."""
        return self.process.wait(PATIENCE)

    def end(self) -> None:
        """Stop it if it still runs."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self._output.close()

    def until(self, what: str, look: Callable[[], T | None]) -> T:
        """Look again and again until there is something to see."""
        deadline = time.monotonic() + PATIENCE
        while (seen := look()) is None:
            assert self.process.poll() is None, f"ended before {what}:\n{self.said()}"
            assert time.monotonic() < deadline, f"no {what}:\n{self.said()}"
            time.sleep(0.01)
        return seen


@pytest.fixture(scope="module")
def whole(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The micro configuration, from nothing."""
    running = Running(fresh_checkout(tmp_path_factory.mktemp("slurm")), "--configfile", MICRO)
    yield running
    running.end()


@pytest.fixture(scope="module")
def limited(cluster: Cluster, whole: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One training of more iterations, with a snapshot after each; it runs beside the other workflow."""
    checkout = fresh_checkout(tmp_path_factory.mktemp("limited"))
    recipe = checkout.folder / "config/recipes/deeplabv3-micro.yaml"
    recipe.write_text(recipe.read_text().replace("base: {iterations: 6}", "base: {iterations: 100}"))
    content = yaml.safe_load((checkout.folder / MICRO).read_text())
    content["experiments"][0]["methods"] = ["joint"]
    (checkout.folder / MICRO).write_text(yaml.safe_dump(content))
    running = Running(checkout, "train_all", "--configfile", MICRO, SEGUE_SNAPSHOT_MINUTES="0")
    yield running
    running.end()


def records(folder: Path) -> list[dict]:
    return [
        json.loads(file.read_text())
        for file in sorted(folder.glob("results/**/train.json"))
        if "work" not in file.parts
    ]


def running_training(folder: Path) -> tuple[int, dict[str, str]] | None:
    """Process number and environment of a training that runs at this moment in a folder."""
    for user in folder.glob("results/work/**/user"):
        try:
            pid = int(user.read_text().split()[1])
            command = Path(f"/proc/{pid}/cmdline").read_text()
            variables = Path(f"/proc/{pid}/environ").read_text().split("\0")
        except (OSError, ValueError, IndexError):  # it has just begun, or ended
            continue
        if "train_step.py" in command and str(folder) in command:
            return pid, dict(variable.split("=", 1) for variable in variables if "=" in variable)
    return None


@pytest.fixture(scope="module")
def held(limited: Running) -> tuple[int, dict[str, str]]:
    """The limited training, stopped in the middle, so that it cannot end however fast the machine is."""
    limited.until("snapshot", lambda: next(limited.folder.glob("results/work/**/snapshot-*.pt"), None))
    found = running_training(limited.folder)
    assert found is not None, limited.said()
    os.kill(found[0], signal.SIGSTOP)
    return found


def test_two_trainings_at_once_have_different_gpus(held: tuple[int, dict[str, str]], whole: Running):
    _, other = whole.until("training beside the held one", lambda: running_training(whole.folder))
    mine = held[1]
    assert mine["SLURM_JOB_ID"] != other["SLURM_JOB_ID"]
    assert {mine["CUDA_VISIBLE_DEVICES"], other["CUDA_VISIBLE_DEVICES"]} == {"0", "1"}


def test_a_job_killed_by_its_time_limit_is_submitted_again_and_goes_on(
    held: tuple[int, dict[str, str]], limited: Running, tmp_path: Path
):
    job = held[1]["SLURM_JOB_ID"]
    subprocess.run(["scontrol", "update", f"JobId={job}", "EndTime=now+1seconds"], check=True)

    def timed_out() -> str | None:
        shown = subprocess.run(["scontrol", "show", "job", job], capture_output=True, text=True, check=True).stdout
        return shown if "JobState=TIMEOUT" in shown else None

    def state_saved() -> str | None:
        """The last words of the training: in its log, until the next attempt begins that file anew."""
        logs = (file.read_text() for file in limited.folder.glob("results/logs/base/**/train.log"))
        return next((log for log in logs if "stopped by SIGTERM after iteration" in log), None)

    limited.until("time limit", timed_out)
    limited.until("words of a training that saved its state in the grace time", state_saved)
    assert limited.wait() == 0, limited.said()
    assert "mem_mb=1000" in limited.said() and "runtime=60" in limited.said()  # more of both the second time
    (record,) = records(limited.folder)
    assert 0 < record["resumed_at"] < record["iterations"] == 100
    assert record["machine"]["slurm_job"] not in (None, job)
    (checkpoint,) = limited.folder.glob("results/base/**/checkpoint.pt")
    assert checkpoint.read_bytes() == trained_in_one_go(limited.folder, record, tmp_path).read_bytes()


def trained_in_one_go(folder: Path, record: dict, target: Path) -> Path:
    """The checkpoint of the same training without SLURM, Snakemake or interruption."""
    (split,) = (file for file in folder.glob("results/splits/**/*.json") if not file.name.endswith(".made_by.json"))
    (data,) = folder.glob("results/data/*/dataset.json")
    out = {"checkpoint": "checkpoint.pt", "record": "train.json", "curves": "train.csv", "work": "work"}
    command = [sys.executable, "workflow_scripts/train_step.py", "--spec", json.dumps(record["spec"])]
    command += ["--data", str(data), "--split", str(split)]
    for option, name in out.items():
        command += [f"--{option}", str(target / name)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder)}
    subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=True)
    return target / "checkpoint.pt"


def test_the_table_is_the_same_as_on_the_workstation(whole: Running, micro: Checkout):
    assert whole.wait() == 0, whole.said()
    table = "results/tables/metrics.csv"
    assert (whole.folder / table).read_bytes() == (micro.folder / table).read_bytes()
    assert all(record["machine"]["slurm_job"] for record in records(whole.folder))
    assert all(record["machine"]["slurm_job"] is None for record in records(micro.folder))


def test_no_gpu_is_given_twice_at_the_same_time(whole: Running):
    assert whole.wait() == 0, whole.said()
    trainings = [
        (datetime.fromisoformat(record["started"]), datetime.fromisoformat(record["ended"]), record["machine"])
        for record in records(whole.folder)
    ]
    assert {machine["visible_gpus"] for *_, machine in trainings} <= {"0", "1"}
    at_once = [
        (one["visible_gpus"], other["visible_gpus"])
        for (began, ended, one), (other_began, other_ended, other) in combinations(trainings, 2)
        if began < other_ended and other_began < ended and one["slurm_job"] != other["slurm_job"]
    ]
    assert all(one != other for one, other in at_once), at_once
