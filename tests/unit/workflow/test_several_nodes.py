"""Starting the processes of several nodes and ending them together; the nodes are pretended, tests/slurm has real ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest
from method_jobs import PROJECT
from pretended_slurm import install

from model.common.process_numbers import LOST, ProcessNumbersError, check_shares
from model.workflow.several_nodes import Allocation, NodesError, run_nodes, share

SCRIPT = PROJECT / "workflow_scripts" / "start_processes.py"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Of a job with two nodes."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_")}
    path = install(tmp_path / "bin")
    return {**inherited, "PATH": path, "SLURM_JOB_ID": "7", "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}


def start(code: str, environment: dict[str, str], count: int = 4, nodes: int = 2) -> subprocess.Popen[str]:
    """Some Python in each process."""
    head = "import os, signal, sys, time\nrank, local = int(os.environ['RANK']), os.environ['LOCAL_RANK']\n"
    command = [sys.executable, str(SCRIPT), "--nodes", str(nodes), str(count)]
    command += [sys.executable, "-c", head + textwrap.dedent(code)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment, **pipes)  # type: ignore[call-overload,no-any-return]


def end(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    said, errors = process.communicate(timeout=300)
    return process.returncode, said, errors


def test_processes_are_numbered_through_all_nodes_and_the_first_one_speaks(environment: dict[str, str]) -> None:
    code = """
        node = int(os.environ["SLURM_PROCID"])
        print(os.environ["RANK"], os.environ["MASTER_ADDR"], "SEGUE_MEETING" in os.environ, flush=True)
        right = rank == 2 * node + int(local) and os.environ["WORLD_SIZE"] == "4" and os.environ["LOCAL_WORLD_SIZE"] == "2"
        sys.exit(0 if right else 1)
    """
    assert end(start(code, environment)) == (0, "0 127.0.0.1 False\n", "")


def test_processes_of_two_nodes_exchange_tensors(environment: dict[str, str]) -> None:
    code = """
        import torch
        from model.training.processes import joined, meeting_numbers
        with joined(meeting_numbers(os.environ), torch.device("cpu")) as processes:
            print(processes.add(torch.tensor([1 + rank])).item(), flush=True)
    """
    assert end(start(code, environment, count=2)) == (0, "3\n", "")


@pytest.mark.parametrize("culprit", [0, 1, 3])
def test_who_fails_speaks_alone_wherever_it_runs(culprit: int, environment: dict[str, str]) -> None:
    code = f"""
        if rank == {culprit}:
            print("error: a broken image", file=sys.stderr)
            sys.exit(1)
        time.sleep(1)
        sys.exit({LOST})
    """
    assert end(start(code, environment)) == (1, "", "error: a broken image\n")


def test_an_error_of_all_is_told_once(environment: dict[str, str]) -> None:
    code = "print('error: a wrong key', file=sys.stderr); sys.exit(1)"
    assert end(start(code, environment)) == (1, "", "error: a wrong key\n")


def test_a_killed_process_is_told_by_its_number_among_all(environment: dict[str, str]) -> None:
    status, _, errors = end(start(f"os.kill(os.getpid(), 9) if rank == 3 else sys.exit({LOST})", environment))
    assert status == 128 + signal.SIGKILL
    assert errors.startswith("error: process 4 of 4 was killed by SIGKILL") and errors.count("\n") == 1


def test_a_node_that_waits_for_a_failed_one_for_ever_is_ended(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    code = "print('error: no space', file=sys.stderr) or sys.exit(1) if os.environ['RANK'] == '1' else time.sleep(600)"
    launcher = [sys.executable, str(SCRIPT), "--launcher", "--nodes", "2", "2"]
    launcher += [sys.executable, "-c", f"import os, sys, time; {code}"]
    monkeypatch.setenv("PATH", environment["PATH"])
    said: list[str] = []
    began = time.monotonic()
    assert run_nodes(launcher, Allocation(("node1", "node2"), "127.0.0.1"), environment, said.append, grace=0.3) == 1
    assert time.monotonic() - began < 300
    assert (said, capfd.readouterr().err) == ([], "error: no space\n")


def test_a_launcher_that_is_gone_without_a_word_ends_all(environment: dict[str, str]) -> None:
    process = start("os.kill(os.getppid(), 9) if rank == 1 else time.sleep(60)", environment, count=2)
    status, _, errors = end(process)
    assert status != 0
    assert errors.splitlines()[-1].startswith("error: srun ended without a word from node2")


@pytest.mark.parametrize("to_all", [False, True])
def test_a_request_to_stop_reaches_all_and_who_still_writes_is_not_killed(
    to_all: bool, environment: dict[str, str], tmp_path: Path
) -> None:
    """SLURM sends it to the processes of all nodes, somebody at a shell to this one alone."""
    code = f"""
        asked = []
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, lambda number, frame: asked.append(number))
        open(f"{tmp_path}/ready{{rank}}", "w").close()
        while not asked:
            time.sleep(0.05)
        time.sleep(1.0 if rank == 0 else 0.0)
        open(f"{tmp_path}/stopped{{rank}}", "w").close()
        sys.exit(128 + asked[0])
    """
    process = start(code, environment)
    while len(list(tmp_path.glob("ready*"))) < 4:
        assert process.poll() is None
        time.sleep(0.05)
    if to_all:
        for child in psutil.Process(process.pid).children(recursive=True):
            if "--launcher" in child.cmdline() and "srun" not in child.cmdline():
                child.send_signal(signal.SIGTERM)
    else:
        process.send_signal(signal.SIGTERM)
    assert end(process) == (128 + signal.SIGTERM, "", "")
    assert len(list(tmp_path.glob("stopped*"))) == 4


def without(environment: dict[str, str], **changed: str | None) -> dict[str, str]:
    return {key: value for key, value in {**environment, **changed}.items() if value is not None}


@pytest.mark.parametrize(
    ("changed", "nodes", "message"),
    [
        ({"SLURM_JOB_ID": None}, 2, "2 nodes are asked for, but there is no SLURM job here"),
        ({"PATH": "/nowhere"}, 2, "2 nodes are asked for, but there is no srun and no scontrol here"),
        (
            {"SLURM_STEP_ID": "0"},
            2,
            "2 nodes are asked for, but this process is confined to a part of job 7: set 'mpi:",
        ),
        ({}, 4, r"4 nodes are asked for, but job 7 has 2 (node[1-2])"),
        ({}, 3, "4 processes cannot be shared out evenly among 3 nodes"),
    ],
)
def test_nodes_that_are_not_there_are_refused_in_one_line(
    changed: dict[str, str | None], nodes: int, message: str, environment: dict[str, str]
) -> None:
    status, said, errors = end(start("print('started')", without(environment, **changed), nodes=nodes))
    assert (status, said) == (1, "")
    assert errors.startswith(f"error: {message}") and errors.count("\n") == 1


def test_processes_are_shared_out_evenly_or_not_at_all() -> None:
    assert [share(8, nodes) for nodes in (1, 2, 4, 8)] == [8, 4, 2, 1]
    with pytest.raises(NodesError, match="8 processes cannot be shared out evenly among 3 nodes"):
        share(8, 3)


def test_images_are_shared_out_evenly_or_not_at_all() -> None:
    check_shares(16, 2, 8)
    with pytest.raises(
        ProcessNumbersError, match="8 images in each of 2 passes cannot be shared out evenly among 16 processes"
    ):
        check_shares(16, 2, 16)
