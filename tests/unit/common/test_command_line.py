"""What ends a command: one line for what a user can solve, a traceback for a bug."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from model.common.command_line import read_argument, run
from model.common.fingerprints import PROJECT


def raising(error: BaseException):
    def main() -> None:
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("a.png is empty: copy it again"), "a.png is empty: copy it again"),
        (
            FileNotFoundError(2, "No such file or directory", "a.json"),
            "a.json: no such file or directory; check the path",
        ),
        (PermissionError(13, "Permission denied", "a.json"), "a.json: permission denied; make the folder writable"),
        (OSError(28, "No space left on device"), "a file: no space left on device; free some space"),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nmore"),
            "the GPU has not enough memory (CUDA out of memory. Tried to allocate 2 GiB); raise 'accumulate'",
        ),
    ],
)
def test_a_problem_is_one_line_with_a_remedy(error: BaseException, line: str, capsys, monkeypatch):
    monkeypatch.delenv("SEGUE_TRACEBACK", raising=False)
    with pytest.raises(SystemExit) as end:
        run(raising(error))
    said = capsys.readouterr().err
    assert end.value.code == 1
    assert said.startswith(f"error: {line}") and said.count("\n") == 1
    monkeypatch.setenv("SEGUE_TRACEBACK", "1")
    with pytest.raises(type(error)):
        run(raising(error))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("raise MemoryError", "nothing more is known"),
        (
            "import numpy; numpy.zeros(10**15)",
            "Unable to allocate 7.11 PiB for an array with shape (1000000000000000,)",
        ),
        ("import torch; torch.zeros(10**15)", "DefaultCPUAllocator: can't allocate memory: you tried to allocate 4000"),
    ],
)
def test_memory_that_runs_out_is_one_line_with_the_job_its_files_and_a_remedy(tmp_path, body, reason):
    (tmp_path / "split.json").write_text("{}")
    command = [*script(tmp_path, body), "--split", str(tmp_path / "split.json"), "--output", "none.json"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: script.py has not enough memory ({reason}") and done.stderr.count("\n") == 1
    assert f"), reading {tmp_path}/split.json: give the job more (mem_mb of the profile)" in done.stderr


def script(folder: Path, body: str) -> list[str]:
    file = folder / "script.py"
    file.write_text(f"from model.common.command_line import run\n\ndef main():\n    {body}\n\nrun(main)\n")
    return [sys.executable, str(file)]


def environment(**more: str) -> dict[str, str]:
    return {"PYTHONPATH": str(Path(__file__).parents[3]), "PATH": "/usr/bin:/bin", **more}


@pytest.mark.parametrize(
    "more", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}]
)
def test_output_that_knows_only_ascii_gets_near_relations(tmp_path, more):
    body = 'print("60.6 ± 1.3, grün … 2 × 3, 漢"); raise ValueError("größe")'
    done = subprocess.run(script(tmp_path, body), env=environment(**more), capture_output=True, check=False)
    assert done.stdout == b"60.6 +- 1.3, grun ... 2 x 3, ?\n"
    assert done.stderr == b"error: groe\n" or done.stderr == b"error: gro?e\n"
    assert done.returncode == 1


def test_nothing_is_said_to_somebody_who_does_not_listen_any_more(tmp_path):
    for lines in (1, 100_000):  # within a buffer, and beyond
        command = script(tmp_path, f'print("x\\n" * {lines})')
        process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 128 + 13


def test_a_bug_keeps_its_traceback():
    with pytest.raises(KeyError):
        run(raising(KeyError("x")))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_being_asked_to_stop_is_one_line_and_the_status_of_the_signal(number: signal.Signals):
    waiting = "print('waiting', flush=True); import time; time.sleep(60)"
    code = f"from model.common.command_line import run; run(lambda: exec({waiting!r}))"
    command = [sys.executable, "-c", code]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": PROJECT}
    with subprocess.Popen(command, **pipes) as process:
        assert process.stdout.readline() == "waiting\n"
        os.kill(process.pid, number)
        _, said = process.communicate()
    assert process.returncode == 128 + number
    assert said == f"stopped by {number.name}; run it again to have it done\n"


def test_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM)
    run(lambda: None)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_long_argument_stands_in_a_file(tmp_path):
    (tmp_path / "spec.json").write_text('{"a": 1}')
    assert read_argument(f"@{tmp_path / 'spec.json'}") == read_argument('{"a": 1}') == '{"a": 1}'
