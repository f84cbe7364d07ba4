"""Files in the place of trainings, as the plan sees them: what they depend on, and what is refused before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from model.config.messages import ConfigError
from model.config.reading import parse_config
from model.reporting.collect import released_rows, step_of
from model.workflow.plan import Plan
from model.workflow.plan_jobs import galleries, plan_jobs

SHA = "a" * 64
FILE = {"file": "/nowhere/weights.pth", "format": "mib", "sha256": SHA}
RELEASED = {**FILE, "method": "mib", "scenario": "6-3"}
RECIPE = {
    "family": "per-pixel",
    "network": {"name": "deeplabv3", "backbone": "tiny"},
    "optimiser": {"name": "sgd", "learning_rate": 0.1},
    "base": {"iterations": 10},
    "increment": {"iterations": 5},
    "batch_size": 2,
    "transform": {"name": "full-image"},
}


def plan(recipe: dict[str, Any] | None = None, **experiment: Any) -> Plan:
    """One experiment on a generated dataset of 12 classes."""
    entry = {"dataset": "toy", "scenarios": ["6-3"], "recipe": "small", "methods": ["mib"], **experiment}
    return Plan(
        parse_config(
            {
                "schema_version": 1,
                "datasets": {"toy": {"kind": "shapes", "stuff": 6, "things": 6}},
                "recipes": {"small": {**RECIPE, **(recipe or {})}},
                "experiments": [entry],
            }
        )
    )


def imported(found: Plan) -> list[str]:
    return [directory for directory in found.trainings if directory.startswith("imported/")]


def test_all_methods_and_seeds_continue_from_one_file() -> None:
    found = plan(base_checkpoint=FILE, methods=["mib", "lwf", "joint"], seeds=[0, 1])
    (directory,) = imported(found)
    firsts = {run.trainings[0].directory for run in found.runs if run.method != "joint"}
    assert firsts == {directory}
    assert {d.split("/")[0] for d in found.trainings} == {"imported", "runs", "base"}  # the base is that of joint
    assert not [split for split in found.splits.values() if split.step.index == 0 and len(split.step.current) == 6]


def test_a_released_row_is_one_import_with_its_own_evaluation() -> None:
    found = plan(methods=[], released=[{**RELEASED, "step": 1}, RELEASED | {"label": "last"}])
    first, last = found.runs
    assert [run.method for run in found.runs] == ["mib-released", "last"]
    assert (step_of(first, 0), step_of(last, 0)) == (1, 2)
    assert first.trainings[0].spec["imported"]["classes_per_step"] == [6, 3]
    assert len(found.evaluations) == 2 and not found.memories and not found.splits
    key = ("toy", "semantic", "overlapped", "small", "6-3")
    assert released_rows(found) == {(*key, "mib-released"): ("mib", False), (*key, "last"): ("mib", True)}
    assert not galleries(found)


def test_an_import_depends_on_content_classes_and_network_and_on_nothing_else(tmp_path: Path) -> None:
    before = imported(plan(base_checkpoint=FILE))
    for same in (
        {"recipe": {"optimiser": {"name": "adamw", "learning_rate": 1e-3}, "batch_size": 4, "base": {"epochs": 3}}},
        {"base_checkpoint": FILE | {"file": "/elsewhere/weights.pth"}},
        {"seeds": [3]},
    ):
        assert imported(plan(**{"base_checkpoint": FILE, **same})) == before
    for other in (
        {"base_checkpoint": FILE | {"sha256": "b" * 64}},
        {"base_checkpoint": FILE | {"format": "plop"}},
        {"recipe": {"network": {**RECIPE["network"], "channels": 64}}},
        {"scenarios": [{"name": "6-3", "steps": [[1, 0, 2, 3, 4, 5], [6, 7, 8], [9, 10, 11]]}]},
    ):
        assert imported(plan(**{"base_checkpoint": FILE, **other})) != before


def test_its_job_reads_the_file_and_nothing_of_the_data(tmp_path: Path) -> None:
    found = plan(base_checkpoint=FILE)
    (directory,) = imported(found)
    jobs = {job.name: job for job in plan_jobs(found, tmp_path)}
    assert {name: read.file for name, read in jobs[directory].inputs.items()} == {"imported file": Path(FILE["file"])}
    assert "model.interop.importing" in jobs[directory].code and "model.training.loop" not in jobs[directory].code
    increment = jobs["runs/toy/semantic_6-3_overlapped/small/mib/seed0/step1"]
    assert increment.inputs["previous checkpoint"].made_by == directory


@pytest.mark.parametrize(
    ("experiment", "said"),
    [
        ({"base_checkpoint": FILE | {"format": "mibb"}}, r"experiments\[0\]\.base_checkpoint\.format: .*'mibb'.*mib"),
        (
            {"base_checkpoint": FILE | {"format": "ssul"}},
            "SSUL stores deeplabv3-ssul, but the network",
        ),
        ({"base_checkpoint": FILE | {"sha256": "abc"}}, "base_checkpoint.sha256"),
        ({"base_checkpoint": FILE | {"file": "$SEGUE_NO_SUCH/a.pth"}}, "SEGUE_NO_SUCH"),
        ({"base_checkpoint": FILE, "methods": ["dft-star"]}, "prepares its base step for all later classes"),
        ({"released": [RELEASED | {"scenario": "6-2"}]}, r"released\[0\]\.scenario: .*'6-2'"),
        ({"released": [RELEASED | {"step": 7}]}, "scenario '6-3' ends at step 2"),
        ({"released": [RELEASED | {"setting": "disjoint"}]}, "the experiment has overlapped, not disjoint"),
        ({"released": [RELEASED | {"method": "mibb"}]}, "'mibb'"),
        ({"released": [RELEASED, RELEASED]}, "'mib-released in 6-3' is listed twice; give one of them a 'label'"),
        ({"methods": []}, "list at least one method, or released weights"),
    ],
)
def test_what_cannot_be_is_refused_with_its_key(experiment: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        plan(**experiment)
