"""Files from the future: results are brought to the present, files of the user are named."""

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from made_up_jobs import chain, run_all

from model.workflow.contents import Contents
from model.workflow.file_times import FileTimeError, bring_to_the_present
from model.workflow.state import Read, states

FUTURE = 2_000_000_000


def test_results_are_brought_to_the_present_and_the_past_is_left_alone(tmp_path: Path):
    jobs = chain("split", "training").jobs(tmp_path)
    run_all(jobs, states(jobs, Contents(tmp_path)))
    ahead, behind = jobs[0].outputs
    os.utime(ahead, (FUTURE, FUTURE))
    os.utime(behind, (1000, 1000))
    bring_to_the_present(jobs)
    assert ahead.stat().st_mtime <= time.time() and behind.stat().st_mtime == 1000
    assert {state.name for state in states(jobs, Contents(tmp_path)).values()} == {"present"}


def test_a_file_of_the_user_is_named_and_left_alone(tmp_path: Path):
    (job,) = chain("training").jobs(tmp_path)
    weights = tmp_path / "weights.pth"
    weights.touch()
    job = replace(job, inputs={"initial weights": Read(weights)})
    bring_to_the_present([job])
    os.utime(weights, (FUTURE, FUTURE))
    with pytest.raises(
        FileTimeError, match=r"weights\.pth was last changed in the future \(2033-05-18 .*`touch` the file"
    ):
        bring_to_the_present([job])
    assert weights.stat().st_mtime == FUTURE
