"""Checkpoints that nothing needs any more are removed; the workflow has nothing to do, and trains again what it must."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from checkout import MICRO, Checkout
from project_changes import check, configure, entry, expect, of_results

pytestmark = pytest.mark.xdist_group("micro")

MIDDLE = {"finetuning", "finetuning-replay", "mib", "lwf"}
"""Methods with a step between the base step and the last one."""


def script(checkout: Checkout, name: str, *arguments: str) -> str:
    command = [sys.executable, f"workflow_scripts/{name}", "--configfile", MICRO, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(checkout.folder), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=checkout.folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def checkpoints(checkout: Checkout) -> set[Path]:
    results = checkout.folder / "results"
    return {file.relative_to(results) for file in results.rglob("checkpoint.pt") if "work" not in file.parts}


def weight_of_step_2(folder: Path) -> None:
    configure(folder, lambda content: entry(content, "mib").update(steps={2: {"distillation_weight": 3.0}}))


def test_what_nothing_needs_goes_and_nothing_runs_again(micro: Checkout, tmp_path: Path):
    checkout = micro.copy(tmp_path / "project")
    before = checkpoints(checkout)
    listed = script(checkout, "clean_checkpoints.py")
    assert "4 checkpoints that nothing needs any more" in listed and "Nothing was removed." in listed
    assert checkpoints(checkout) == before

    assert "Removed 4 checkpoints" in script(checkout, "clean_checkpoints.py", "--yes")
    gone = before - checkpoints(checkout)
    assert {file.parts[4] for file in gone} == MIDDLE and {file.parts[6] for file in gone} == {"step1"}
    assert checkout.planned() == set() and checkout.planned("train_all") == set()
    wanted = next(file for file in gone if "mib" in file.parts)
    assert of_results(checkout.planned(f"results/{wanted}")).trained == {"mib/step1"}, "so it comes back"
    planned = script(checkout, "show_plan.py")
    assert "trainings: 10 present\n" in planned and planned.count("present, checkpoint removed") == 4
    assert "to be done: nothing." in planned
    assert script(checkout, "show_why.py").count("again") == 0


def test_a_step_that_continues_from_a_removed_checkpoint_gives_what_it_would_have_given(
    micro: Checkout, tmp_path: Path
):
    removed, whole = micro.copy(tmp_path / "removed"), micro.copy(tmp_path / "whole")
    script(removed, "clean_checkpoints.py", "--yes")
    for checkout in (removed, whole):
        weight_of_step_2(checkout.folder)
    said = removed.snakemake("--dry-run").stderr
    assert "because files of theirs were removed: 1 training" in said
    assert "mib/seed0/step1" in said and "checkpoint.pt was deleted, and is needed again" in said
    planned = script(removed, "show_plan.py")
    assert (
        "checkpoint.pt was deleted, and is needed again" in planned
        and "because files of theirs were removed" in planned
    )
    check(removed.planned(), expect("mib/step1", "mib/step2"))

    for checkout in (removed, whole):
        done = checkout.snakemake()
        assert done.returncode == 0, done.stderr
    tables = [(checkout.folder / "results/tables/metrics.csv").read_bytes() for checkout in (removed, whole)]
    assert tables[0] == tables[1]
    log = next((removed.folder / "results/logs").glob("runs/**/mib/seed0/step1/evaluate_segue.log"))
    assert "this had finished before" in log.read_text(), "the checkpoint came out the same"
    assert len(checkpoints(whole) - checkpoints(removed)) == 3


def test_a_workflow_removes_them_itself_where_the_machine_says_so(
    micro: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    checkout = micro.copy(tmp_path / "project")
    monkeypatch.setenv("SEGUE_KEEP", "some")
    refused = checkout.snakemake()
    assert refused.returncode != 0 and "SEGUE_KEEP is 'some': expected 'all', or 'last'" in refused.stderr
    assert "Traceback" not in refused.stderr
    monkeypatch.setenv("SEGUE_KEEP", "last")
    assert len(checkpoints(checkout)) == 10
    checkout.snakemake("--dry-run")
    assert len(checkpoints(checkout)) == 10
    (checkout.folder / "results/tables/metrics.csv").unlink()
    done = checkout.snakemake()
    assert done.returncode == 0 and "removed 4 checkpoints that nothing needs any more" in done.stderr
    assert len(checkpoints(checkout)) == 6
    assert of_results(checkout.planned()) == expect()
