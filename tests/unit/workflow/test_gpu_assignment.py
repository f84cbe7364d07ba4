"""GPUs that do not exist, shared out among processes that do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from model.common.fingerprints import PROJECT
from model.workflow.gpu_assignment import GpuAssignmentError, gpu_pool, lock_folder, try_assign, wait_for_gpus

SCRIPT = PROJECT / "workflow_scripts" / "assign_gpus.py"
HOLD = (
    "import os, pathlib, sys, time\n"
    "mine = pathlib.Path(sys.argv[1])\n"
    "mine.write_text(os.environ['CUDA_VISIBLE_DEVICES'])\n"
    "while not mine.with_suffix('.end').exists():\n"
    "    time.sleep(0.01)\n"
    "mine.with_suffix('.ended').touch()\n"
)
"""Says which GPUs it has, and keeps them until it may end."""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Two GPUs, and a place for locks that no other test uses."""
    (tmp_path / "locks").mkdir()
    inherited = {k: v for k, v in os.environ.items() if k not in ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID")}
    return {**inherited, "SEGUE_GPUS": "0,1", "TMPDIR": str(tmp_path / "locks"), "PYTHONPATH": str(PROJECT)}


@pytest.fixture
def start(tmp_path: Path, environment: dict[str, str]):
    """Starts a holder of some GPUs; what is left at the end of a test is killed."""
    running = []

    def holder(name: str, count: int, **changes: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(SCRIPT), str(count), sys.executable, "-c", HOLD, str(tmp_path / name)]
        running.append(subprocess.Popen(command, env={**environment, **changes}, stderr=subprocess.PIPE))
        return running[-1]

    yield holder
    for process in running:
        process.kill()
        process.communicate()


def held(tmp_path: Path, *names: str, seconds: float = 60) -> set[str]:
    """GPUs that these holders say they have, once all have said so."""
    deadline = time.monotonic() + seconds
    while not all((tmp_path / name).exists() and (tmp_path / name).read_text() for name in names):
        assert time.monotonic() < deadline, f"{names}: {[p.name for p in tmp_path.iterdir()]}"
        time.sleep(0.01)
    gpus = [gpu for name in names for gpu in (tmp_path / name).read_text().split(",")]
    assert len(set(gpus)) == len(gpus), "a GPU was given twice"
    return set(gpus)


def test_jobs_never_share_a_gpu_and_all_get_their_turn(start, tmp_path):
    wanted = {"a": 1, "b": 1, "c": 2, "d": 1, "e": 2, "f": 1}
    jobs = {name: start(name, count) for name, count in wanted.items()}
    ended: set[str] = set()
    deadline = time.monotonic() + 120
    while len(ended) < len(jobs):
        assert time.monotonic() < deadline
        holding = {name for name in jobs if (tmp_path / name).exists() and name not in ended}
        gpus = held(tmp_path, *holding)
        assert gpus <= {"0", "1"} and len(gpus) == sum(wanted[name] for name in holding)
        for name in sorted(holding)[:1]:
            (tmp_path / name).with_suffix(".end").touch()
            assert jobs[name].wait(60) == 0
            ended.add(name)
        time.sleep(0.01)


def test_a_killed_job_gives_its_gpus_back(start, tmp_path):
    first = start("first", 2)
    assert held(tmp_path, "first") == {"0", "1"}
    second = start("second", 1)
    assert b"waiting for 1 of the GPUs 0, 1" in second.stderr.readline()
    assert not (tmp_path / "second").exists()
    first.send_signal(signal.SIGKILL)
    assert held(tmp_path, "second") <= {"0", "1"}


def test_the_command_replaces_the_launcher_and_keeps_its_status(environment):
    code = "import os, sys; print(os.getpid()); sys.exit(7)"
    command = [sys.executable, str(SCRIPT), "1", sys.executable, "-c", code]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    output, _ = process.communicate()
    assert (int(output), process.returncode) == (process.pid, 7)


@pytest.mark.parametrize(
    ("count", "changes", "expected"),
    [
        ("0", {}, "none"),
        ("1", {"SLURM_JOB_ID": "17"}, "none"),
        ("1", {"SLURM_JOB_ID": "17", "CUDA_VISIBLE_DEVICES": "3"}, "3"),
        ("1", {"SEGUE_GPUS": ""}, "none"),
        ("1", {"SEGUE_GPUS": "GPU-5a/b"}, "GPU-5a/b"),
        ("2", {"SEGUE_GPUS": "4, 6 ,7"}, "4,6"),
    ],
)
def test_what_a_command_sees(environment, count, changes, expected):
    code = "import os; print(os.environ.get('CUDA_VISIBLE_DEVICES', 'none'))"
    command = [sys.executable, str(SCRIPT), count, sys.executable, "-c", code]
    done = subprocess.run(command, env={**environment, **changes}, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected


def test_an_outer_choice_of_gpus_is_the_pool():
    assert gpu_pool({"CUDA_VISIBLE_DEVICES": "2,5"}) == ("2", "5")
    assert gpu_pool({"CUDA_VISIBLE_DEVICES": "2,5", "SEGUE_GPUS": "5"}) == ("5",)
    assert gpu_pool({"CUDA_VISIBLE_DEVICES": ""}) == ()


def test_the_driver_is_asked_when_nobody_chose(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nprintf '0\\n1\\n3\\n'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert gpu_pool({}) == ("0", "1", "3")
    program.write_text("#!/bin/sh\necho 'no driver'\nexit 9\n")
    assert gpu_pool({}) == ()


def test_all_that_is_asked_for_or_nothing(tmp_path):
    one = try_assign(["0", "1", "2"], 2, tmp_path)
    assert one is not None and one.gpus == ("0", "1")
    assert try_assign(["0", "1", "2"], 2, tmp_path) is None
    other = try_assign(["0", "1", "2"], 1, tmp_path)  # the failed attempt left card 2 free
    assert other is not None and other.gpus == ("2",)
    one.release()
    again = try_assign(["1"], 1, tmp_path)
    assert again is not None


def test_more_than_there_are_is_refused_at_once(tmp_path):
    with pytest.raises(GpuAssignmentError, match=r"3 GPUs are asked for, but there are 2 to share out \(0, 1\)"):
        wait_for_gpus(["0", "1"], 3, tmp_path, say=print)


def test_a_folder_of_another_user_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    assert lock_folder().stat().st_mode & 0o077 == 0
    monkeypatch.setattr("os.getuid", lambda: 12345678)
    (tmp_path / "segue-gpus-12345678").mkdir()
    with pytest.raises(GpuAssignmentError, match="belongs to another user"):
        lock_folder()


def test_a_wrong_call_is_one_line(environment):
    done = subprocess.run([sys.executable, str(SCRIPT), "one"], env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("error: expected a number of GPUs and a command")
