"""Killed without warning or interrupted again and again, the workflow ends with the table of a run that nobody disturbed.

``pytest tests/workflow/test_chaos.py --chaos-kills 20`` kills twenty times. The seed decides what is killed and when; when is
told by the number of jobs that have started and a short while after it, so that a slow machine gets as far as a fast one.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from checkout import MICRO, Checkout, fresh_checkout

pytestmark = pytest.mark.xdist_group("chaos")

TABLE = "results/tables/metrics.csv"
COMMAND = [sys.executable, "-m", "snakemake", "--cores", "2", "--resources", "gpu=2", "--configfile", MICRO]
GPUS = {"no-card-0", "no-card-1"}
"""Leased by the trainings, which run on the CPU since nothing answers to these names."""


def start(checkout: Checkout) -> psutil.Popen:
    """Start the workflow, with a snapshot after every iteration and made-up GPUs."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "SLURM_JOB_ID")}
    environment |= {"OMP_NUM_THREADS": "1", "SEGUE_SNAPSHOT_MINUTES": "0"}
    environment |= {"SEGUE_GPUS": ",".join(sorted(GPUS)), "TMPDIR": str(checkout.folder.parent)}
    log = (checkout.folder / "snakemake.log").open("a")
    return psutil.Popen(COMMAND, cwd=checkout.folder, env=environment, stdout=log, stderr=subprocess.STDOUT)


def wait_for(what: Callable[[], object], running: psutil.Popen) -> bool:
    """Wait until something is true; False if the workflow ends before."""
    while not what():
        if running.poll() is not None:
            return False
        time.sleep(0.005)
    return True


def jobs_started(checkout: Checkout) -> int:
    return sum(1 for _ in checkout.folder.glob("results/logs/**/*.log"))


def trainings(running: psutil.Popen) -> list[psutil.Process]:
    """Processes that train at the moment."""
    try:
        processes = running.children(recursive=True)
    except psutil.NoSuchProcess:  # it has ended since it was last looked at
        return []
    found = []
    for process in processes:
        try:
            command = process.cmdline()
        except psutil.Error:
            continue
        if len(command) > 1 and command[1].endswith("train_step.py"):
            found.append(process)
    return found


def kill_tree(running: psutil.Popen) -> None:
    """Snakemake and everything it started, at once."""
    for process in [running, *running.children(recursive=True)]:
        try:
            process.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    running.wait()


@dataclass
class Chaos:
    """What is killed when, and what has happened so far.

    Attributes:
        generator: decides.
        kills: number of kills so far.
        in_the_middle: work folders of trainings that were killed after their first and before their last iteration.
    """

    generator: random.Random
    kills: int = 0
    in_the_middle: set[Path] = field(default_factory=set)

    def disturb(self, checkout: Checkout, running: psutil.Popen) -> None:
        """Kill a training, or everything, at a random moment; return when the workflow has ended."""
        kind = self.generator.choice([self.kill_everything, self.interrupt_everything, self.end_a_training])
        jobs = jobs_started(checkout) + self.generator.randint(1, 4)
        while_after = self.generator.uniform(0, 3)
        if wait_for(lambda: jobs_started(checkout) >= jobs, running):
            ready = time.monotonic() + while_after
            if wait_for(lambda: time.monotonic() >= ready, running):
                kind(checkout, running)
        running.wait()

    def kill_everything(self, checkout: Checkout, running: psutil.Popen) -> None:
        """As a machine that is switched off, or a user who closes the terminal."""
        kill_tree(running)
        self.kills += 1
        done = checkout.snakemake("--unlock")
        assert done.returncode == 0, done.stdout + done.stderr

    def interrupt_everything(self, checkout: Checkout, running: psutil.Popen) -> None:
        """As Ctrl-C at a terminal, or sent to Snakemake alone: everything ends by itself, and nothing is left locked."""
        if self.generator.random() < 0.5:
            for process in running.children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGINT)
        running.send_signal(signal.SIGINT)
        self.kills += 1
        running.wait()
        said = (checkout.folder / "snakemake.log").read_text()
        assert "a bug, please report" not in said, said[-5000:]

    def end_a_training(self, checkout: Checkout, running: psutil.Popen) -> None:
        """As a machine that has run out of memory, or a cluster at a time limit: the workflow ends with an error."""
        how = self.generator.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
        snapshots = set(checkout.folder.glob("results/work/**/snapshot-*.pt"))

        def new_snapshot() -> list[Path]:
            return [file for file in checkout.folder.glob("results/work/**/snapshot-*.pt") if file not in snapshots]

        if self.generator.random() < 0.7 and wait_for(new_snapshot, running):
            self._end_in_the_middle(checkout, new_snapshot(), how)
        elif wait_for(lambda: trainings(running), running):
            for process in trainings(running)[:1]:
                process.send_signal(how)
                self.kills += 1

    def _end_in_the_middle(self, checkout: Checkout, snapshots: list[Path], how: signal.Signals) -> None:
        for file in snapshots[:1]:
            work = file.parents[1]
            process = int((work / "user").read_text().split()[1])
            try:
                os.kill(process, signal.SIGSTOP)  # nothing must end between looking and killing
                if any((work / "snapshots").glob("*.pt")) and not (work / "finished").exists():
                    self.in_the_middle.add(work.relative_to(checkout.folder / "results/work"))
                os.kill(process, how)
                os.kill(process, signal.SIGCONT)
                self.kills += 1
            except ProcessLookupError:
                continue


def until_it_ends_well(checkout: Checkout, chaos: Chaos, kills: int) -> None:
    """Start the workflow as often as it takes, and disturb it while kills are left."""
    for _ in range(1000):
        running = start(checkout)
        if chaos.kills < kills:
            chaos.disturb(checkout, running)
        elif running.wait() != 0:
            raise AssertionError((checkout.folder / "snakemake.log").read_text()[-20_000:])
        if running.returncode == 0:
            return
    raise AssertionError("the workflow gets nowhere")


def test_a_workflow_that_is_killed_again_and_again_ends_with_the_same_table(
    micro: Checkout, tmp_path: Path, request: pytest.FixtureRequest
):
    kills = request.config.getoption("--chaos-kills")
    chaos = Chaos(random.Random(request.config.getoption("--chaos-seed")))
    rounds = 0
    while chaos.kills < kills:  # a run that ends before the last kill is followed by another
        rounds += 1
        checkout = fresh_checkout(tmp_path / f"round{rounds}")
        chaos.in_the_middle.clear()
        until_it_ends_well(checkout, chaos, kills)
        assert (checkout.folder / TABLE).read_bytes() == (micro.folder / TABLE).read_bytes()
        for training in chaos.in_the_middle:
            record = json.loads((checkout.folder / "results" / training / "train.json").read_text())
            assert record["resumed_at"] > 0, f"{training} started from the beginning"
        for file in checkout.folder.glob("results/**/step*/train.json"):
            assert json.loads(file.read_text())["machine"]["visible_gpus"] in GPUS
        assert not list(checkout.folder.glob("results/work/**/*.pt")), "snapshots are left"
    print(f"{chaos.kills} kills in {rounds} runs")


def test_a_training_that_outlives_its_workflow_is_not_lost(micro: Checkout, tmp_path: Path):
    checkout = fresh_checkout(tmp_path / "project")
    running = start(checkout)
    assert wait_for(lambda: list(checkout.folder.glob("results/work/**/snapshot-*.pt")), running)
    running.kill()  # alone: what it started goes on
    running.wait()
    assert checkout.snakemake("--unlock").returncode == 0
    done = checkout.snakemake("--", "train_all")
    assert done.returncode == 0, done.stdout + done.stderr
    for base in checkout.folder.glob("results/base/**/checkpoint.pt"):
        other = micro.folder / base.relative_to(checkout.folder)
        assert base.read_bytes() == other.read_bytes()
    logs = [file.read_text() for file in checkout.folder.glob("results/logs/base/**/train.log")]
    assert any("its outputs are taken from" in text or "continuing after iteration" in text for text in logs), logs
