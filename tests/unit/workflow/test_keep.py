"""Accepting finished results under other code or another configuration, and what is told before anything is made again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from made_up_jobs import CODE, MadeUp, Recipe, chain, run, run_all

from model.common.provenance import read_provenance
from model.reporting.records import RecordError
from model.reporting.verification import verify
from model.training.work_folder import keep_finished, restore_finished
from model.workflow.changes import LINES, everything, losses, summary
from model.workflow.contents import Contents
from model.workflow.keep import bring_back, keep
from model.workflow.state import Job, State, states
from model.workflow.unfinished import link_results

NEW_CODE = {**CODE, "model.training.loop": "2"}


def look(jobs: list[Job], results: Path) -> dict[str, State]:
    return states(jobs, Contents(results))


def finished(plan: MadeUp, results: Path) -> list[Job]:
    jobs = plan.jobs(results)
    run_all(jobs, look(jobs, results))
    return jobs


def everything_kept(jobs: list[Job], results: Path) -> tuple[list[str], list[str]]:
    accepted, refused = keep(jobs, {job.name for job in jobs}, Contents(results), "same results")
    return [job.name for job in accepted], refused


def test_what_is_kept_is_present_marked_and_still_tells_what_made_it(tmp_path: Path):
    plan = chain("split", "training", "training", "evaluation", "tables")
    finished(plan, tmp_path)
    for number in (1, 2):
        plan.change(number, code=NEW_CODE)
    plan.change(2, spec={"weight": 999})
    jobs = plan.jobs(tmp_path)
    assert everything_kept(jobs, tmp_path) == (["job1", "job2"], [])
    found = look(jobs, tmp_path)
    assert {state.name for state in found.values()} == {"present"}
    assert [state.kept for state in found.values()] == [False, True, True, True, True]
    record = read_provenance(jobs[2].record)
    assert record.made_from.spec == {"weight": 10} and record.counts_as.spec == {"weight": 999}
    (decision,) = record.kept
    assert decision.reason == "same results" and decision.date.startswith("20")
    assert decision.differences == (
        "made with weight 10, the configuration says 999",
        "model.training.loop has changed",
    )


def test_what_is_kept_is_compared_with_the_next_change_again(tmp_path: Path):
    plan = chain("training", "tables")
    finished(plan, tmp_path)
    plan.change(0, spec={"weight": 999})
    everything_kept(plan.jobs(tmp_path), tmp_path)
    plan.change(0, spec={"weight": 5})
    found = look(plan.jobs(tmp_path), tmp_path)
    assert [reason.text for reason in found["job0"].reasons] == ["made with weight 999, the configuration says 5"]
    run(plan.jobs(tmp_path)[0])
    found = look(plan.jobs(tmp_path), tmp_path)
    assert found["job0"].name == "present" and not found["job0"].kept


def test_only_what_was_chosen_is_kept(tmp_path: Path):
    plan = MadeUp([Recipe("training", {"weight": 10}, CODE, ()) for _ in range(2)])
    plan.recipes.append(Recipe("tables", {}, CODE, (0, 1)))
    finished(plan, tmp_path)
    for number in (0, 1):
        plan.change(number, code=NEW_CODE)
    jobs = plan.jobs(tmp_path)
    accepted, refused = keep(jobs, {"job1"}, Contents(tmp_path), "")
    assert [job.name for job in accepted] == ["job1"] and refused == []
    assert [state.name for state in look(jobs, tmp_path).values()] == ["stale", "present", "stale"]


@pytest.mark.parametrize("damage", ["content", "other step", "upstream"])
def test_what_cannot_be_kept_is_told(tmp_path: Path, damage: str):
    plan = chain("training", "training", "tables")
    plan.change(1, spec={"weight": 10, "step": 1})
    finished(plan, tmp_path)
    plan.change(1, code=NEW_CODE)
    if damage == "content":
        (tmp_path / "job1/out").write_text("damaged")
    elif damage == "other step":
        plan.change(1, spec={"weight": 10, "step": 2})
    else:
        (tmp_path / "job0/out.made_by.json").unlink()
    accepted, refused = everything_kept(plan.jobs(tmp_path), tmp_path)
    expected = {
        "content": "job1: out does not hold what was written to it",
        "other step": "job1: it was made for another step",
        "upstream": "job1: its input 0 (job0) is made again",
    }
    assert (accepted, refused) == ([], [expected[damage]])


def test_results_are_at_hand_until_the_new_ones_are_there(tmp_path: Path):
    """Snakemake removes what it makes again; who goes back to the old configuration, or accepts, gets it back."""
    plan = chain("split", "training", "tables")
    old = finished(plan, tmp_path)
    before = (tmp_path / "job1/out").read_text()
    plan.change(1, spec={"weight": 999})
    jobs = plan.jobs(tmp_path)
    link_results(jobs, look(jobs, tmp_path), tmp_path, again=False)
    for file in jobs[1].outputs:
        file.unlink()
    outputs = {file.name: file for file in old[1].outputs}
    key = read_provenance(old[1].record).made_from.key
    assert restore_finished(tmp_path / "work/job1", key, outputs, lambda _: None)
    assert (tmp_path / "job1/out").read_text() == before
    for file in jobs[1].outputs:
        file.unlink()
    assert bring_back(jobs, tmp_path) == ["job1"]
    assert everything_kept(jobs, tmp_path)[0] == ["job1"]


def test_a_result_that_may_be_right_as_it_is_waits_under_the_key_that_its_job_will_have(tmp_path: Path):
    plan = chain("split", "training", "tables")
    jobs = finished(plan, tmp_path)
    plan.change(0, code=NEW_CODE)
    again = plan.jobs(tmp_path)
    link_results(again, look(again, tmp_path), tmp_path, again=False)
    outputs = {file.name: file for file in jobs[1].outputs}
    key = read_provenance(jobs[1].record).made_from.key
    assert restore_finished(tmp_path / "work/job1", key, outputs, lambda _: None)


def test_what_somebody_asked_to_be_run_again_is_not_restored(tmp_path: Path):
    jobs = finished(chain("training", "tables"), tmp_path)
    outputs = {file.name: file for file in jobs[0].outputs}
    key = read_provenance(jobs[0].record).made_from.key
    link_results(jobs, look(jobs, tmp_path), tmp_path, again=True)
    assert not restore_finished(tmp_path / "work/job0", key, outputs, lambda _: None)
    keep_finished(tmp_path / "work/job0", key, outputs)
    link_results(jobs, look(jobs, tmp_path), tmp_path, again=False)
    assert restore_finished(tmp_path / "work/job0", key, outputs, lambda _: None)


def test_before_finished_trainings_are_made_again_it_is_told_which_why_and_what_they_cost(tmp_path: Path):
    plan = chain("training", "evaluation", "tables")
    jobs = plan.jobs(tmp_path)
    assert losses(jobs, look(jobs, tmp_path)) == [], "nothing is lost where nothing is"
    run(jobs[0], seconds=7200, device="NVIDIA H200")
    run(jobs[1], seconds=60)
    run(jobs[2])
    assert losses(jobs, look(jobs, tmp_path)) == []
    plan.change(0, spec={"weight": 999})
    jobs = plan.jobs(tmp_path)
    told = losses(jobs, look(jobs, tmp_path))
    assert "1 training and 1 evaluation, 2.0 h GPU + 60 s CPU" in told[0]
    assert told[1] == "  job0 (2.0 h GPU): made with weight 10, the configuration says 999"
    assert told[2] == "  job1 (60 s CPU): its input 0 is made again"
    assert "make keep" in told[-1]
    assert told[1] in everything(jobs, look(jobs, tmp_path))
    assert summary(jobs, look(jobs, tmp_path)) == ["trainings: 1 stale", "evaluations: 1 stale", "tables: 1 stale"]


def test_many_jobs_of_one_cause_are_one_line(tmp_path: Path):
    plan = MadeUp([Recipe("training", {"weight": 10}, CODE, ()) for _ in range(LINES + 5)])
    finished(plan, tmp_path)
    for number in range(len(plan.recipes)):
        plan.change(number, code=NEW_CODE if number else {**CODE, "model.losses.distillation": "2"})
    jobs = plan.jobs(tmp_path)
    lines = [line for line in losses(jobs, look(jobs, tmp_path)) if line.startswith("  ")]
    assert len(lines) == 2
    assert f"  {LINES + 4} trainings ({LINES + 4}.0 h CPU): model.training.loop has changed (job1, job2, …" in lines[1]


def test_what_comes_out_the_same_is_told_apart(tmp_path: Path):
    plan = chain("split", "training", "tables")
    finished(plan, tmp_path)
    plan.change(0, code=NEW_CODE)
    told = losses(plan.jobs(tmp_path), look(plan.jobs(tmp_path), tmp_path))
    assert told[0].startswith("Made again only if what they were made from comes out differently: 1 training")
    assert told[1:-1] == ["They follow from:", "  job0 (60 min CPU): model.training.loop has changed"]


def test_a_result_of_another_configuration_is_not_put_into_a_table(tmp_path: Path):
    plan = chain("training", "evaluation")
    jobs = finished(plan, tmp_path)
    verify(jobs, look(jobs, tmp_path))
    plan.change(0, spec={"weight": 999})
    jobs = plan.jobs(tmp_path)
    with pytest.raises(RecordError, match=r"job0: made with weight 10, the configuration says 999.*make keep"):
        verify(jobs, look(jobs, tmp_path))
    jobs = [replace(job, spec={"weight": 10}) for job in jobs]
    verify(jobs, look(jobs, tmp_path))
