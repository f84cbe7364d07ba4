"""Whatever was changed, deleted, damaged or copied: doing what is not present makes everything right."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_jobs import CODE, KINDS, MadeUp, Recipe, chain, run, run_all

from model.common.fingerprints import PROJECT
from model.workflow.changes import losses
from model.workflow.contents import CACHE, Contents
from model.workflow.state import Job, Read, State, differences, spec_differences, states


def look(jobs: list[Job], results: Path) -> dict[str, State]:
    contents = Contents(results)
    found = states(jobs, contents)
    (results / "work").mkdir(exist_ok=True, parents=True)
    contents.save()
    return found


def names(found: dict[str, State]) -> list[str]:
    return [state.name for state in found.values()]


def reasons(found: dict[str, State], job: str) -> list[str]:
    return [reason.text for reason in found[job].reasons]


@st.composite
def plans(draw: st.DrawFn) -> MadeUp:
    recipes = []
    for number in range(draw(st.integers(1, 5))):
        reads = draw(st.sets(st.integers(0, number - 1), max_size=2)) if number else set()
        recipes.append(Recipe(draw(st.sampled_from(KINDS)), {"weight": 10}, CODE, tuple(sorted(reads))))
    return MadeUp(recipes)


WHAT = ("spec", "code", "reads", "delete", "damage", "forget", "unrecord", "touch", "copy", "run")
operations = st.lists(st.tuples(st.sampled_from(WHAT), st.integers(0, 4), st.integers(0, 3)), max_size=8)


def apply(plan: MadeUp, results: Path, what: str, number: int, value: int) -> Path:
    """Do something to a plan or to its files; returns the folder, which may be another one then."""
    number %= len(plan.recipes)
    job = plan.jobs(results)[number]
    file = job.outputs[value % 2]
    if what == "spec":
        plan.change(number, spec={"weight": value})
    elif what == "code":
        plan.change(number, code={**CODE, "model.training.loop": str(value)})
    elif what == "reads":
        plan.change(number, reads=(value % number,) if number else ())
    elif what == "delete":
        file.unlink(missing_ok=True)
    elif what == "damage" and file.exists():
        times = file.stat()
        file.write_text("x" * times.st_size)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))  # size and time stay
    elif what == "forget" and (results / f"job{number}").exists():
        shutil.rmtree(results / f"job{number}")
    elif what == "unrecord":
        job.record.unlink(missing_ok=True)
    elif what == "touch" and file.exists():
        os.utime(file, (value, value))
    elif what == "copy":
        target = results.with_name(results.name + "+")
        shutil.copytree(results, target, copy_function=shutil.copyfile)  # new times
        shutil.rmtree(results)
        return target
    elif what == "run":
        run_all(plan.jobs(results), look(plan.jobs(results), results))
    return results


@settings(max_examples=100, deadline=None)
@given(plans(), operations)
def test_doing_what_is_not_present_leaves_what_a_fresh_run_makes(plan: MadeUp, done: list[tuple[str, int, int]]):
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results"
        results.mkdir()
        for operation in done:
            results = apply(plan, results, *operation)
        jobs = plan.jobs(results)
        run_all(jobs, look(jobs, results))
        found = look(jobs, results)
        assert set(names(found)) == {"present"}
        for job, expected in zip(jobs, plan.expected(), strict=True):
            for file in job.outputs:
                assert not file.exists() or file.read_text() == expected, "a result that lies"
        assert all(file.exists() for file in jobs[-1].outputs)


@settings(max_examples=30, deadline=None)
@given(plans(), operations, st.randoms(use_true_random=False))
def test_neither_times_nor_place_nor_the_cache_change_a_state(
    plan: MadeUp, done: list[tuple[str, int, int]], generator: random.Random
):
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results"
        results.mkdir()
        for operation in done:
            results = apply(plan, results, *operation)
        before = look(plan.jobs(results), results)
        elsewhere = Path(folder) / "else/where"
        shutil.copytree(results, elsewhere, copy_function=shutil.copyfile)
        for file in elsewhere.rglob("*"):
            time = generator.randint(0, 2**31)
            os.utime(file, (time, time))
        (elsewhere / CACHE).unlink(missing_ok=True)
        after = look(plan.jobs(elsewhere), elsewhere)
        assert names(before) == names(after)


@settings(max_examples=30, deadline=None)
@given(plans(), operations)
def test_what_is_made_from_something_that_is_made_again_is_made_again(plan: MadeUp, done: list[tuple[str, int, int]]):
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results"
        results.mkdir()
        for operation in done:
            results = apply(plan, results, *operation)
        jobs = plan.jobs(results)
        found = look(jobs, results)
        for job in jobs:
            makers = [found[read.made_by] for read in job.inputs.values()]
            if any(maker.name != "present" for maker in makers):
                assert found[job.name].name != "present"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    (tmp_path / "results").mkdir()
    return tmp_path / "results"


def test_nothing_is_there_at_first_and_everything_after_a_run(results: Path):
    jobs = chain("split", "training", "evaluation").jobs(results)
    assert names(look(jobs, results)) == ["missing"] * 3
    assert run_all(jobs, look(jobs, results)) == ["job0", "job1", "job2"]
    assert names(look(jobs, results)) == ["present"] * 3


def test_a_changed_value_is_told_with_both_values_and_what_follows_is_stale(results: Path):
    plan = chain("training", "training", "evaluation")
    run_all(plan.jobs(results), look(plan.jobs(results), results))
    plan.change(1, spec={"weight": 999})
    found = look(plan.jobs(results), results)
    assert names(found) == ["present", "stale", "stale"]
    assert reasons(found, "job1") == ["made with weight 10, the configuration says 999"]
    assert reasons(found, "job2") == ["its input 1 is made again"] and found["job2"].certain


def test_changed_modules_are_named(results: Path):
    plan = chain("training")
    run_all(plan.jobs(results), look(plan.jobs(results), results))
    plan.change(0, code={"model.training.loop": "2", "model.losses.unbiased": "1"})
    (reason,) = reasons(look(plan.jobs(results), results), "job0")
    assert reason == "model.losses.distillation, model.losses.unbiased, model.training.loop have changed"


def test_a_split_made_by_other_code_may_come_out_the_same(results: Path):
    plan = chain("split", "training")
    run_all(plan.jobs(results), look(plan.jobs(results), results))
    plan.change(0, code={"model.training.loop": "2"})
    found = look(plan.jobs(results), results)
    assert names(found) == ["stale", "stale"] and not found["job1"].certain
    run(plan.jobs(results)[0])
    assert names(look(plan.jobs(results), results)) == ["present", "present"], "it came out the same"


def test_an_intermediate_that_nothing_needs_may_be_deleted(results: Path):
    plan = chain("training", "training", "evaluation")
    run_all(plan.jobs(results), look(plan.jobs(results), results))
    (results / "job0/out").unlink()
    assert names(look(plan.jobs(results), results)) == ["present"] * 3
    plan.change(1, spec={"weight": 3})
    found = look(plan.jobs(results), results)
    assert names(found) == ["missing", "stale", "stale"]
    assert reasons(found, "job0") == ["out was deleted, and is needed again"]


def test_a_deleted_output_that_is_wanted_for_its_own_sake_is_missing(results: Path):
    plan = chain("training", "evaluation")
    run_all(plan.jobs(results), look(plan.jobs(results), results))
    (results / "job1/more").unlink()
    found = look(plan.jobs(results), results)
    assert names(found) == ["present", "missing"] and reasons(found, "job1") == ["more is not there"]


def test_an_output_that_was_replaced_is_noticed_behind_its_time_and_size(results: Path):
    plan = chain("training", "evaluation")
    run_all(plan.jobs(results), look(plan.jobs(results), results))
    apply(plan, results, "damage", 0, 0)
    found = look(plan.jobs(results), results)
    assert names(found) == ["stale", "stale"]
    assert reasons(found, "job0") == ["out does not hold what was written to it"]


def test_a_result_of_before_records_were_kept_is_stale(results: Path):
    plan = chain("training")
    run_all(plan.jobs(results), look(plan.jobs(results), results))
    plan.jobs(results)[0].record.unlink()
    found = look(plan.jobs(results), results)
    assert names(found) == ["stale"] and reasons(found, "job0") == ["nothing records what it was made from"]


def test_a_result_whose_record_is_damaged_is_stale_until_a_copy_of_the_record_is_put_back(results: Path):
    plan = chain("split", "training", "evaluation")
    jobs = plan.jobs(results)
    run_all(jobs, look(jobs, results))
    record = jobs[1].record
    copy = record.read_bytes()
    record.write_bytes(copy.replace(b"1", b"2", 1))
    found = look(jobs, results)
    assert names(found) == ["present", "stale", "stale"]
    expected = f"{record.name} is damaged or was edited: only a copy of it, put back, tells what it was made from"
    assert reasons(found, "job1") == [expected]
    assert any(line.strip().startswith("job1") and expected in line for line in losses(jobs, found))
    record.write_bytes(copy)
    assert set(names(look(jobs, results))) == {"present"}


def test_another_input_is_told_by_both_names(results: Path):
    plan = MadeUp([Recipe("memory", {"size": 6}, CODE, ()), Recipe("memory", {"size": 8}, CODE, ())])
    plan.recipes.append(Recipe("training", {}, CODE, (0,)))
    jobs = plan.jobs(results)
    run_all([jobs[0], jobs[2]], look(jobs, results))
    changed = replace(jobs[2], inputs={"input 0": Read(results / "job1/out", "job1")})
    found = look([*jobs[:2], changed], results)
    assert reasons(found, "job2") == ["made with input 0 job0/out, the configuration says job1/out"]


def test_an_input_from_outside_counts_by_its_content(results: Path):
    weights = results.parent / "weights.pth"
    weights.write_text("one")
    (job,) = chain("training").jobs(results)
    job = replace(job, inputs={"initial weights": Read(weights)})
    run(job)
    os.utime(weights, (1, 1))
    assert names(look([job], results)) == ["present"]
    weights.write_text("two")
    (reason,) = reasons(look([job], results), "job0")
    assert reason == f"{weights} is not the initial weights that it was made from"


def test_differences_of_specs():
    old = {
        "method": {"name": "mib", "hyper_parameters": {"a": 1.0, "b": None}},
        "recipe": {"optimiser": {"name": "sgd"}},
    }
    new = {
        "method": {"name": "mib", "hyper_parameters": {"a": 2.5, "c": True}},
        "recipe": {"optimiser": {"name": "adamw"}},
    }
    assert [path[-1] for path, *_ in differences(old, new)] == ["a", "b", "c", "name"]
    assert spec_differences(old, new) == [
        "made with a 1, the configuration says 2.5",
        "made with b null, the configuration says nothing",
        "made with c nothing, the configuration says true",
        "made with optimiser.name sgd, the configuration says adamw",
    ]
    assert spec_differences({"classes": list(range(99))}, {"classes": []}) == [
        "made with other classes than the configuration says"
    ]
    assert spec_differences({"a": 10}, {"a": 10.0}) == []


def test_looking_at_states_needs_no_torch():
    code = "import sys, model.workflow.state; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
