"""Removing checkpoints that nothing needs any more: nothing else goes, and no result is called in question."""

from __future__ import annotations

import copy
import csv
import os
import random
import shutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest
from made_up_jobs import run_all

from model.common.files import NotWrittenError
from model.common.locks import NamedLock
from model.common.provenance import checksum
from model.config.reading import parse_config
from model.training.work_folder import keep_finished
from model.workflow.changes import losses
from model.workflow.contents import Contents
from model.workflow.plan import Plan
from model.workflow.plan_jobs import plan_jobs
from model.workflow.retention import REMOVED, RetentionError, keep_setting, remove, retention
from model.workflow.state import Job, State, states

RECIPE = {
    "family": "per-pixel",
    "network": {"name": "deeplabv3", "backbone": "tiny"},
    "optimiser": {"name": "sgd", "learning_rate": 0.1},
    "base": {"iterations": 10},
    "increment": {"iterations": 5},
    "batch_size": 2,
    "transform": {"name": "full-image"},
}
CONFIGURATION = {
    "schema_version": 1,
    "datasets": {"toy": {"kind": "shapes", "stuff": 6, "things": 6}},
    "recipes": {"small": RECIPE},
    "experiments": [{"dataset": "toy", "scenarios": ["6-2"], "recipe": "small", "methods": ["joint", "mib", "lwf"]}],
}


def planned(**changes: object) -> Plan:
    """A base step, three increments of MiB and of LwF; ``changes`` are those of the experiment."""
    content = copy.deepcopy(CONFIGURATION)
    content["experiments"][0].update(changes)
    return Plan(parse_config(content))


@cache
def plan() -> Plan:
    """Without changes."""
    return planned()


@cache
def other_step(step: int) -> Plan:
    """MiB with another hyper-parameter from a step on."""
    changed = {"name": "mib", "steps": {k: {"distillation_weight": 3.0} for k in range(step, 4)}}
    return planned(methods=["joint", changed, "lwf"])


def look(found: Plan, results: Path) -> tuple[list[Job], dict[str, State]]:
    jobs = plan_jobs(found, results)
    return jobs, states(jobs, Contents(results))


def short(name: str) -> str:
    """``mib/step1``, with ``/evaluation`` for that of an evaluation."""
    parts = Path(name).parts
    method, step = (parts[4], parts[6]) if parts[0] == "runs" else (parts[0], parts[2].partition("_")[2][:10])
    return f"{method}/{step}{'/evaluation' * ('evaluation' in parts)}"


def not_present(found: Plan, results: Path, *kinds: str) -> set[str]:
    jobs, of = look(found, results)
    return {short(job.name) for job in jobs if job.kind in kinds and of[job.name].name != "present"}


def everything_removed(found: Plan, results: Path) -> set[str]:
    removed, refused = remove(retention(found, *look(found, results)).removable, results)
    assert not refused
    return {short(entry.training) for entry in removed}


def files(results: Path) -> Mapping[Path, str]:
    return {file: checksum(file) for file in results.rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything has run."""
    results = tmp_path_factory.mktemp("whole") / "results"
    jobs, found = look(plan(), results)
    run_all(jobs, found)
    return results


@pytest.fixture
def results(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "results")
    return tmp_path / "results"


MIDDLE = {"mib/step1", "mib/step2", "lwf/step1", "lwf/step2"}


def test_only_checkpoints_between_base_and_last_steps_go(results: Path):
    before = files(results)
    assert everything_removed(plan(), results) == MIDDLE
    after = files(results)
    gone = {file for file in before if file not in after}
    assert {file.name for file in gone} == {"checkpoint.pt"} and {
        short(str(f.relative_to(results))) for f in gone
    } == MIDDLE
    assert {file.relative_to(results).as_posix() for file in after.keys() - before.keys()} == {REMOVED}
    assert all(after[file] == content for file, content in before.items() if file in after)


def test_every_state_is_as_before(results: Path):
    _, before = look(plan(), results)
    everything_removed(plan(), results)
    jobs, after = look(plan(), results)
    assert {name: state.name for name, state in after.items()} == {name: state.name for name, state in before.items()}
    assert set(s.name for s in after.values()) == {"present"} and losses(jobs, after) == []
    assert not retention(plan(), jobs, after).removable, "nothing is left to remove"


def test_what_is_removed_is_written_down(results: Path):
    found = retention(plan(), *look(plan(), results)).removable
    remove(found, results)
    rows = list(csv.DictReader((results / REMOVED).open()))
    assert [row["training"] for row in rows] == [entry.training for entry in found]
    assert [row["sha256"] for row in rows] == [entry.sha256 for entry in found]
    assert {row["seconds"] for row in rows} == {"3600.0"} and all(row["removed"].startswith("20") for row in rows)
    assert rows[0]["file"] == f"{rows[0]['training']}/checkpoint.pt"


def test_the_cost_of_getting_one_back_is_that_of_everything_removed_before_it(results: Path):
    found = {short(entry.training): entry for entry in retention(plan(), *look(plan(), results)).removable}
    assert [short(name) for name in found["mib/step2"].again] == ["mib/step1", "mib/step2"]
    assert found["mib/step2"].cost.cpu == 7200 and found["mib/step1"].cost.cpu == 3600
    everything_removed(plan(), results)
    base = next(t for t in plan().trainings.values() if t.previous is None and len(t.split.step.current) == 6)
    (results / base.checkpoint).unlink()
    back = run_one(results, "mib/step2")
    assert [len(entry.again) for entry in back] == [3], "base step, step 1 and step 2"


def run_one(results: Path, name: str) -> tuple:
    """Give back one checkpoint as it was, and look at what may be removed."""
    jobs, _ = look(plan(), results)
    job = next(job for job in jobs if job.kind == "training" and short(job.name) == name)
    other = next(file for file in job.outputs if file.name == "train.csv")  # made-up outputs hold the same text
    shutil.copyfile(other, other.with_name("checkpoint.pt"))
    return retention(plan(), *look(plan(), results)).removable


@pytest.mark.parametrize("reader", ["mib/step2", "mib/step1/evaluation"])
def test_a_checkpoint_that_an_unfinished_job_needs_stays(results: Path, reader: str):
    jobs, _ = look(plan(), results)
    job = next(job for job in jobs if job.kind in ("training", "evaluation") and short(job.name) == reader)
    for file in job.outputs:
        file.unlink()
    assert "mib/step1" not in everything_removed(plan(), results)


def test_another_protocol_needs_every_checkpoint(results: Path):
    found = planned(protocols=["segue", "mib"])
    assert not retention(found, *look(found, results)).removable


@pytest.mark.parametrize("what", ["other content", "link", "no record", "edited record", "folder"])
def test_a_file_that_is_not_what_its_record_describes_stays(results: Path, tmp_path: Path, what: str):
    entry = retention(plan(), *look(plan(), results)).removable[0]
    record = entry.file.with_name("train.json")
    if what == "other content":
        entry.file.write_text("weights of the user")
    elif what == "link":
        entry.file.rename(tmp_path / "elsewhere.pt")
        entry.file.symlink_to(tmp_path / "elsewhere.pt")
    elif what == "no record":
        record.unlink()
    elif what == "edited record":
        record.write_text(record.read_text().replace("toy", "boy"))
    else:
        entry.file.unlink()
        entry.file.mkdir()
    before = files(results)
    assert short(entry.training) not in everything_removed(plan(), results)
    assert entry.file in before or what in ("link", "folder")
    assert os.path.lexists(entry.file)


def test_a_file_that_changes_after_it_was_listed_stays(results: Path):
    found = retention(plan(), *look(plan(), results)).removable
    found[0].file.write_text("weights of the user")
    removed, refused = remove(found, results)
    assert found[0] not in removed and len(removed) == 3
    assert refused == [f"{found[0].file}: not removed, it is not the file that its record describes"]
    assert found[0].file.read_text() == "weights of the user"


def test_a_training_that_somebody_works_on_keeps_its_checkpoint(results: Path):
    found = retention(plan(), *look(plan(), results)).removable
    lock = NamedLock(results / "work" / found[0].training / "user")
    assert lock.take()
    removed, refused = remove(found[:1], results)
    assert not removed and "works on it" in refused[0] and found[0].file.exists()
    lock.release()
    assert remove(found[:1], results)[0] == [found[0]]


def test_nothing_is_removed_that_cannot_be_written_down(results: Path):
    (results / REMOVED).mkdir()
    before = files(results)
    with pytest.raises(NotWrittenError, match=REMOVED):
        everything_removed(plan(), results)
    assert files(results) == before


def test_second_names_of_a_removed_file_go_as_well(results: Path):
    entry = retention(plan(), *look(plan(), results)).removable[0]
    outputs = {file.name: file for file in entry.file.parent.iterdir() if file.is_file()}
    keep_finished(results / "work" / entry.training, "key", outputs)
    (results / "work" / entry.training / "finished/mine.txt").write_text("of the user")
    remove([entry], results)
    assert [file.name for file in (results / "work" / entry.training / "finished").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("step", [1, 2, 3])
def test_another_hyper_parameter_trains_again_what_it_must_and_says_so(results: Path, step: int):
    changed = other_step(step)
    without = not_present(changed, results, "training")
    assert without == {f"mib/step{k}" for k in range(step, 4)}
    everything_removed(plan(), results)
    jobs, found = look(changed, results)
    assert not_present(changed, results, "training") == {"mib/step1", "mib/step2", "mib/step3"}
    said = "\n".join(losses(jobs, found))
    for job in jobs:
        if job.kind == "training" and "/mib/" in job.name:
            assert job.name in said
    if step > 1:
        assert (
            "because files of theirs were removed: " in said
            and "checkpoint.pt was deleted, and is needed again" in said
        )
    run_all(jobs, found)
    assert set(s.name for s in look(changed, results)[1].values()) == {"present"}


def test_after_training_again_everything_is_as_if_nothing_had_been_removed(results: Path, tmp_path: Path):
    shutil.copytree(results, tmp_path / "untouched")
    everything_removed(plan(), results)
    for folder in (results, tmp_path / "untouched"):
        run_all(*look(other_step(3), folder))
    made = {f.relative_to(results): c for f, c in files(results).items() if f.name != "contents.json"}
    whole = {f.relative_to(tmp_path / "untouched"): c for f, c in files(tmp_path / "untouched").items()}
    lwf = {Path(t.checkpoint) for t in plan().trainings.values() if short(t.directory) in ("lwf/step1", "lwf/step2")}
    assert lwf <= whole.keys() - made.keys(), "nothing needs those of the other method"
    assert {file: content for file, content in made.items() if file.name != REMOVED} == {
        file: content for file, content in whole.items() if file not in lwf
    }


def test_random_removals_never_change_a_state(results: Path):
    generator = random.Random(0)
    for _ in range(6):
        jobs, before = look(plan(), results)
        found = list(retention(plan(), jobs, before).removable)
        if found:
            remove(generator.sample(found, generator.randint(1, len(found))), results)
            after = look(plan(), results)[1]
            assert {n: s.name for n, s in after.items()} == {n: s.name for n, s in before.items()}
        job = generator.choice([job for job in jobs if job.kind in ("training", "evaluation")])
        for file in generator.sample(job.outputs, generator.randint(1, 3)):
            file.unlink(missing_ok=True)
        if generator.random() < 0.5:
            run_all(*look(plan(), results))
            assert {state.name for state in look(plan(), results)[1].values()} == {"present"}


def test_the_setting_is_all_or_last():
    assert [keep_setting(e) for e in ({}, {"SEGUE_KEEP": ""}, {"SEGUE_KEEP": "all"})] == ["all"] * 3
    assert keep_setting({"SEGUE_KEEP": "last"}) == "last"
    with pytest.raises(RetentionError, match=r"SEGUE_KEEP is 'none': expected 'all', or 'last'"):
        keep_setting({"SEGUE_KEEP": "none"})
