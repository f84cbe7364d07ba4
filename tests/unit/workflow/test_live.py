"""What a results folder alone tells about a workflow that runs somewhere."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from made_up_jobs import chain, run

from model.training.status import STATUS, StatusFile
from model.workflow.contents import Contents
from model.workflow.live import SILENT_MINUTES, Overview, Watch
from model.workflow.results_folder import LOCK
from model.workflow.state import Job, states


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[list[Job]]:
    """A split and a training that are done, two more trainings and an evaluation that are not; a workflow has just begun."""
    made = chain("split", "training", "training", "training", "evaluation").jobs(tmp_path)
    for job in made[:2]:
        run(job)
    (tmp_path / LOCK).write_text(signature())
    yield made


def signature(process: int | None = None, host: str | None = None) -> str:
    began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(psutil.Process().create_time()))
    return f"process {process or os.getpid()} on {host or platform.node()} since {began}\n"


def look(jobs: list[Job], results: Path) -> Overview:
    return Watch(results).look(jobs, states(jobs, Contents(results)))


def log(results: Path, name: str, text: str, file: str = "train.log") -> Path:
    path = results / "logs" / name / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def status(results: Path, name: str, **changes: object) -> None:
    """As a training of this process wrote it, or with other values."""
    StatusFile(results / "work" / name, "cpu", 1, {}).write(iteration=3, iterations=12, rate=1.5, left=6.0)
    file = results / "work" / name / STATUS
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_what_is_present_is_done_and_the_rest_waits(jobs: list[Job], tmp_path: Path):
    seen = look(jobs, tmp_path)
    assert seen.jobs == {"split": 1, "training": 3, "evaluation": 1}
    assert seen.done == {"split": 1, "training": 1, "evaluation": 0}
    assert seen.waiting == {"job2", "job3", "job4"} and not seen.running and not seen.ended
    assert seen.workflow.startswith(f"workflow: process {os.getpid()}")


def test_a_training_that_runs_says_how_far_it_is(jobs: list[Job], tmp_path: Path):
    status(tmp_path, "job2", slurm_job="17", device="NVIDIA A100", processes=2)
    (running,) = look(jobs, tmp_path).running
    assert (running.name, running.iteration, running.iterations, running.rate, running.left) == (
        "job2",
        3,
        12,
        1.5,
        6.0,
    )
    assert running.where == f"{platform.node()}, SLURM job 17, 2 × NVIDIA A100" and running.silent is None


def test_a_training_whose_process_is_gone_was_killed(jobs: list[Job], tmp_path: Path):
    status(tmp_path, "job2", created=0.0)
    (ended,) = look(jobs, tmp_path).ended
    assert ended.name == "job2" and "killed" in ended.said and not ended.stopped


def test_a_training_that_failed_says_why(jobs: list[Job], tmp_path: Path):
    status(tmp_path, "job2", created=0.0)
    file = log(tmp_path, "job2", "a line\nerror: no such file\n")
    (ended,) = look(jobs, tmp_path).ended
    assert (ended.said, ended.stopped) == (f"error: no such file  [{file}]", False)


def test_a_training_that_was_asked_to_stop_has_not_failed(jobs: list[Job], tmp_path: Path):
    status(tmp_path, "job2", created=0.0)
    log(tmp_path, "job2", "stopped by SIGTERM after iteration 3 of 12; run it again to continue from there\n")
    (ended,) = look(jobs, tmp_path).ended
    assert ended.stopped


def test_what_an_earlier_workflow_left_behind_is_no_news(jobs: list[Job], tmp_path: Path):
    status(tmp_path, "job2", created=0.0, written=time.time() - 1000)
    os.utime(log(tmp_path, "job2", "error: no such file\n"), (0, time.time() - 1000))
    seen = look(jobs, tmp_path)
    assert not seen.running and not seen.ended and "job2" in seen.waiting


def test_a_training_that_outlived_its_workflow_still_runs(jobs: list[Job], tmp_path: Path):
    status(tmp_path, "job2", written=time.time() - 1000)
    assert [job.name for job in look(jobs, tmp_path).running] == ["job2"]


def test_nobody_knows_about_a_silent_training_on_another_machine(jobs: list[Job], tmp_path: Path):
    long = 60 * SILENT_MINUTES + 10
    os.utime(tmp_path / LOCK, (0, time.time() - 2 * long))
    status(tmp_path, "job2", host="node7", written=time.time() - long)
    (running,) = look(jobs, tmp_path).running
    assert running.silent > 60 * SILENT_MINUTES and running.where.startswith("node7")
    log(tmp_path, "job2", "error: out of memory\n")
    assert [job.name for job in look(jobs, tmp_path).ended] == ["job2"]


def test_an_evaluation_runs_while_its_process_has_the_lock(jobs: list[Job], tmp_path: Path):
    user = tmp_path / "work/job4/user"
    user.parent.mkdir(parents=True)
    user.write_text(signature())
    (running,) = look(jobs, tmp_path).running
    assert (running.name, running.kind, running.where) == ("job4", "evaluation", platform.node())
    user.write_text(signature(process=2**22 + 1))
    assert not look(jobs, tmp_path).running


def test_failures_of_other_jobs_are_shown(jobs: list[Job], tmp_path: Path):
    log(tmp_path, "data/photos", "error: classes.txt is missing\n", "prepare.log")
    (ended,) = look(jobs, tmp_path).ended
    assert ended.name == "data/photos/prepare" and "classes.txt is missing" in ended.said


def test_a_workflow_that_is_gone_or_elsewhere_is_called_so(jobs: list[Job], tmp_path: Path):
    (tmp_path / LOCK).write_text(signature(process=2**22 + 1))
    assert look(jobs, tmp_path).workflow.startswith("no workflow is running; the last one was process")
    (tmp_path / LOCK).write_text(signature(host="login1"))
    assert "cannot be seen from here" in look(jobs, tmp_path).workflow
    (tmp_path / LOCK).unlink()
    assert look(jobs, tmp_path).workflow == "no workflow has run here yet"


def test_looking_changes_nothing(jobs: list[Job], tmp_path: Path):
    status(tmp_path, "job2")
    (tmp_path / "work/job4").mkdir(parents=True)
    (tmp_path / "work/job4/user").write_text(signature())
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    look(jobs, tmp_path)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == before
