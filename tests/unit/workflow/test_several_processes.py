"""Starting several processes and ending them together."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
import threading
import time

import pytest

from model.common.process_numbers import LOST
from model.workflow.several_processes import run_processes


def run(code: str, count: int = 3, grace: float = 0.3) -> tuple[int, list[str]]:
    """Status, and what was said, of processes that run some Python."""
    said: list[str] = []
    head = "import os, signal, sys, time\nrank = int(os.environ['RANK'])\n"
    status = run_processes(
        [sys.executable, "-c", head + textwrap.dedent(code)], count, os.environ, said.append, grace=grace
    )
    return status, said


def test_processes_are_numbered_as_torchrun_does(capfd: pytest.CaptureFixture[str]) -> None:
    code = "sys.exit(0 if os.environ['LOCAL_RANK'] == str(rank) and os.environ['WORLD_SIZE'] == '3' else 1)"
    assert run(code) == (0, [])
    run("print(rank)")
    assert capfd.readouterr().out == "0\n"


def test_who_fails_speaks_alone_and_the_others_end(capfd: pytest.CaptureFixture[str]) -> None:
    """The first process waits for ever, as for a GPU; the second has noticed that the third is gone."""
    code = f"""
        if rank == 2:
            print("error: a broken image", file=sys.stderr)
            sys.exit(1)
        if rank == 1:
            print("connection closed", file=sys.stderr)
            sys.exit({LOST})
        time.sleep(600)
    """
    began = time.monotonic()
    assert run(code) == (1, [])
    assert time.monotonic() - began < 60
    assert capfd.readouterr().err == "error: a broken image\n"


def test_an_error_of_all_is_told_once(capfd: pytest.CaptureFixture[str]) -> None:
    assert run("print('error: a wrong key', file=sys.stderr); sys.exit(1)", grace=5) == (1, [])
    assert capfd.readouterr().err == "error: a wrong key\n"


def test_a_killed_process_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    status, said = run(f"os.kill(os.getpid(), signal.SIGKILL) if rank == 1 else sys.exit({LOST})")
    assert status == 128 + signal.SIGKILL
    (line,) = said
    assert line.startswith("error: process 2 of 3 was killed by SIGKILL")


def test_who_lost_a_process_that_was_asked_to_stop_reports_no_failure() -> None:
    """A request may come while the training starts, when every process ends at once; one of them waits for another for ever."""
    code = f"""
        if rank == 1:
            sys.exit({128 + signal.SIGTERM})
        if rank == 0:
            sys.exit({LOST})
        time.sleep(600)
    """
    assert run(code, grace=0.05) == (128 + signal.SIGTERM, [])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_request_to_stop_reaches_all_and_nobody_is_killed(number: signal.Signals, tmp_path) -> None:
    """Writing what is to be kept takes longer than the time after which a failure has the others killed."""
    code = f"""
        def stop(number, frame):
            time.sleep(1.0 if rank == 0 else 0.0)
            open(f"{tmp_path}/stopped{{rank}}", "w").close()
            sys.exit(128 + number)
        signal.signal({int(number)}, stop)
        open(f"{tmp_path}/ready{{rank}}", "w").close()
        time.sleep(600)
    """

    def ask() -> None:
        while len(list(tmp_path.glob("ready*"))) < 3:
            time.sleep(0.05)
        os.kill(os.getpid(), number)

    asking = threading.Thread(target=ask)
    asking.start()
    status, said = run(code, grace=10)
    asking.join()
    assert (status, said) == (128 + number, [])
    assert len(list(tmp_path.glob("stopped*"))) == 3
