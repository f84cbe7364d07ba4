"""One workflow at a time in a results folder, and what failed jobs said last."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from model.common.files import FileError
from model.common.own_folders import ForeignFolderError
from model.config.messages import ConfigError
from model.config.reading import parse_config
from model.workflow.plan import Plan
from model.workflow.results_folder import LOCK, ResultsError, ResultsLock, failures

PROJECT = Path(__file__).resolve().parents[3]
HOLD = """
import pathlib, sys
from model.workflow.results_folder import ResultsLock
reservation = ResultsLock(pathlib.Path(sys.argv[1]))
reservation.acquire()
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_workflow_is_told_who_has_the_folder_until_that_one_dies(tmp_path: Path) -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], **pipes) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ResultsError, match=f"another workflow is writing to this folder .process {holder.pid} on "):
            ResultsLock(tmp_path).acquire()
        holder.kill()  # no chance to clean up
    reservation = ResultsLock(tmp_path)
    reservation.acquire()
    reservation.acquire()
    assert (tmp_path / LOCK).read_text().startswith(f"process {os.getpid()} on ")


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("")
    with pytest.raises(FileError, match="there is a file where a folder is expected"):
        ResultsLock(tmp_path / "results").acquire()


def test_failures_are_one_line_a_job_of_this_run_in_order(tmp_path: Path) -> None:
    texts = {
        "old.log": "error: before\n",
        "a/second.log": "step 1\nerror: b.png is empty\n",
        "a/first.log": "Traceback (most recent call last):\n  File ...\nKeyError: 'x'\n",
        "fine.log": "all well\n",
    }
    for place, (name, text) in enumerate(texts.items()):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        os.utime(file, (1000, {"old.log": 10, "a/first.log": 1000, "a/second.log": 2000}.get(name, 3000 + place)))
    assert failures(tmp_path, since=500) == [
        f"error: KeyError: 'x'; a bug, please report it with {tmp_path / 'a/first.log'}",
        f"error: b.png is empty  [{tmp_path / 'a/second.log'}]",
    ]
    assert failures(tmp_path / "nowhere", since=0) == []


def test_what_ends_when_the_workflow_is_interrupted_is_no_bug(tmp_path: Path) -> None:
    """A compiled library that is being imported turns the interrupt into an error of its own."""
    panic = "Traceback (most recent call last):\n  File ...\npyo3_runtime.PanicException: failed to import `datetime`\n"
    for name, ended in (("before.log", 1000), ("then.log", 2001)):
        (tmp_path / name).write_text(panic)
        os.utime(tmp_path / name, (ended, ended))
    bug, stopped = failures(tmp_path, since=500, interrupted=2002.0)
    assert bug.endswith(f"a bug, please report it with {tmp_path / 'before.log'}")
    assert stopped == f"stopped by SIGINT before it had begun; run it again to have it done  [{tmp_path / 'then.log'}]"
    assert all("a bug" in line for line in failures(tmp_path, since=500))


SNAKEMAKE_LOG = """
[Sat Nov 21 16:24:52 2026]
Error in rule train_base:
    message: None
    jobid: 4
    input: results/data/toy/dataset.json
    output: results/base/toy/checkpoint.pt
    log: {logs}/base/train.log (check log file(s) for error details)
    shell:
        exec python train_step.py
        (command exited with non-zero exit code)
Error in rule evaluate_step:
    jobid: 5
    log: {logs}/evaluate.log (check log file(s) for error details)
RuleException:
OSError in file "Snakefile", line 1:
[Errno 7] Argument list too long: '/bin/bash'
"""


def test_a_job_that_was_killed_or_could_not_be_started_is_told_too(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    (logs / "base").mkdir(parents=True)
    (logs / "base/train.log").write_text("iteration 3/10\n")
    (logs / "evaluate.log").write_text("error: no such checkpoint\n")
    (logs / "stopped.log").write_text("iteration 3/10\nstopped by SIGINT after iteration 3 of 10; run it again\n")
    snakemake = tmp_path / "snakemake.log"
    snakemake.write_text(SNAKEMAKE_LOG.format(logs=logs))
    told = failures(logs, 0, snakemake)
    assert len(told) == 4
    assert f"error: no such checkpoint  [{logs / 'evaluate.log'}]" in told
    assert any(line.startswith("stopped by SIGINT after iteration 3") for line in told)
    (killed,) = [line for line in told if "signal 9" in line]
    assert killed.startswith("error: train_base ended without saying why") and str(logs / "base/train.log") in killed
    assert "argument list too long" in told[-1]


CONFIG = {
    "schema_version": 1,
    "experiments": [
        {"dataset": "photos", "scenarios": ["1-1"], "recipe": "deeplabv3-micro", "methods": ["finetuning"]}
    ],
}


def planned(results: str, root: str) -> Plan:
    """The plan of a folder dataset of two classes."""
    dataset = {"kind": "folder", "root": root, "classes": ["sky", "grass"]}
    content = {**CONFIG, "results": results, "datasets": {"photos": dataset}}
    return Plan(parse_config(content, recipes=PROJECT / "config" / "recipes"))


@pytest.mark.parametrize(
    ("results", "root"),
    [
        (".", "data/photos"),
        ("work", "work/data/photos"),
        ("results", "results/data/photos/raw"),
        ("results", "link"),
        ("photos/results", "photos"),
        ("other", "photos"),
    ],
)
def test_raw_data_and_results_are_kept_apart_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, results: str, root: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    (tmp_path / "link").symlink_to("results/mine")
    (tmp_path / "other").symlink_to(".")
    with pytest.raises(ConfigError, match=r"datasets\.photos: the raw data of dataset 'photos' .* keep the two apart"):
        planned(results, root)


def test_a_folder_of_somebody_else_where_the_workflow_would_write_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine/data/photos").mkdir(parents=True)
    (tmp_path / "mine/data/photos/one.jpg").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"mine/data/photos already exists and was not made by Segue"):
        planned("mine", "raw")
    (tmp_path / "mine/data/photos").rename(tmp_path / "mine/tables")
    (tmp_path / "mine/data").rmdir()
    with pytest.raises(ConfigError, match=r"results: mine/tables already exists and was not made by Segue"):
        planned("mine", "raw")
    with pytest.raises(ForeignFolderError):
        ResultsLock(tmp_path / "mine").acquire()
    assert sorted(file.name for file in (tmp_path / "mine").rglob("*")) == ["one.jpg", "tables"]


def test_what_a_workflow_has_made_is_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    (tmp_path / "results/README.md").write_text("mine")
    planned("results", "raw")
    ResultsLock(tmp_path / "results").acquire()
    (tmp_path / "results/tables").mkdir()
    planned("results", "raw")
