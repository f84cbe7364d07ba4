"""The file in which a running training says how far it is."""

from __future__ import annotations

import io
import os
import platform
import subprocess
import sys
from pathlib import Path

import psutil

from model.training.progress import Progress
from model.training.status import STATUS, StatusFile, is_running, read_status


def test_a_status_says_who_trains_and_how_far_it_is(tmp_path: Path):
    status = StatusFile(tmp_path / "work", "NVIDIA A100", 4, {"SLURM_JOB_ID": "17"})
    status.write()
    began = read_status(tmp_path / "work")
    assert (began.host, began.process, began.device) == (platform.node(), os.getpid(), "NVIDIA A100")
    assert (began.processes, began.slurm_job, began.iteration, began.rate) == (4, "17", None, None)
    status.write(iteration=5, iterations=20, rate=2.5, left=6.0)
    later = read_status(tmp_path / "work")
    assert (later.iteration, later.iterations, later.rate, later.left) == (5, 20, 2.5, 6.0)
    assert later.written >= began.written
    status.remove()
    assert read_status(tmp_path / "work") is None and not list((tmp_path / "work").iterdir())


def test_every_line_of_the_log_is_told(tmp_path: Path):
    seconds = iter(range(0, 1000, 6))
    status = StatusFile(tmp_path, "cpu", 1, {})
    progress = Progress(10, log=io.StringIO(), clock=lambda: next(seconds), tell=status.write)
    for iteration in range(1, 5):
        progress.iteration(iteration, 0.1, {"total": 1.0})
    found = read_status(tmp_path)
    assert (found.iteration, found.iterations) == (4, 10)
    assert found.left == 6 * (24 / 4), "as long for each of the six that are left as for those before"


def test_training_continues_where_the_status_cannot_be_written(tmp_path: Path):
    (tmp_path / "work").write_text("a file in the way of the folder")
    status = StatusFile(tmp_path / "work", "cpu", 1, {})
    status.write(iteration=1)
    status.remove()
    assert read_status(tmp_path / "work") is None


def test_a_status_that_is_damaged_says_nothing(tmp_path: Path):
    for text in ("", "[1]", '{"host": "a"}', '{"unknown": 1}'):
        (tmp_path / STATUS).write_text(text)
        assert read_status(tmp_path) is None


def test_a_process_runs_until_it_ends_and_no_other_one_takes_its_place():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    created, host = psutil.Process(process.pid).create_time(), platform.node()
    assert is_running(host, process.pid, created)
    assert not is_running(host, process.pid, created - 100), "the number belongs to a later process"
    assert is_running("another-machine", process.pid, created) is None
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not is_running(host, process.pid, created), "not even before anybody has asked how it ended"
    process.wait()
    assert not is_running(host, process.pid, created)
