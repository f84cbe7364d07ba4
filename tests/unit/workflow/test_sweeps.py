"""Sweeps become ordinary runs: what they share, what they are called, and which of them make no sense."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from model.config.messages import ConfigError
from model.config.reading import parse_config
from model.workflow.plan import Plan
from model.workflow.plan_jobs import plan_jobs

RECIPE = {
    "family": "per-pixel",
    "network": {"name": "deeplabv3", "backbone": "tiny"},
    "optimiser": {"name": "sgd", "learning_rate": 0.1},
    "base": {"iterations": 10},
    "increment": {"iterations": 5},
    "batch_size": 2,
    "transform": {"name": "full-image"},
}
WEIGHT, RATE = "method.distillation_weight", "recipe.increment.learning_rate"


def plan(**experiment: Any) -> Plan:
    entry = {"dataset": "toy", "scenarios": ["6-6"], "recipe": "small", "methods": ["finetuning", "mib"], **experiment}
    content = {
        "schema_version": 1,
        "datasets": {"toy": {"kind": "shapes", "stuff": 6, "things": 6}},
        "recipes": {"small": RECIPE},
        "experiments": [entry],
    }
    return Plan(parse_config(content))


def increments(found: Plan) -> dict[tuple[str, str], dict[str, Any]]:
    return {(run.recipe, run.method): run.trainings[-1].spec for run in found.runs}


def test_every_combination_is_a_run_and_a_method_without_the_key_one_per_recipe():
    found = plan(sweep={WEIGHT: [1, 10, 100], RATE: [0.01, 0.05]})
    specs = increments(found)
    rates = [f"small@increment.learning-rate={rate}" for rate in (0.01, 0.05)]
    weights = [f"mib@distillation-weight={weight}" for weight in (1, 10, 100)]
    assert set(specs) == {(rate, method) for rate in rates for method in ("finetuning", *weights)}
    spec = specs[rates[1], weights[2]]
    assert spec["method"]["hyper_parameters"]["distillation_weight"] == 100
    assert spec["recipe"]["optimiser"]["learning_rate"] == 0.05
    bases = [directory for directory in found.trainings if directory.startswith("base/")]
    assert len(bases) == 1 and len(found.trainings) == 9  # increments differ, the base step does not


def test_a_run_of_a_sweep_is_the_run_that_one_would_have_written():
    by_hand = plan(methods=[{"name": "mib", "hyper_parameters": {"distillation_weight": 100}}])
    swept = increments(plan(methods=["mib"], sweep={WEIGHT: [1, 100]}))
    assert swept["small", "mib@distillation-weight=100"] == increments(by_hand)["small", "mib"]


def test_overrides_change_the_run_and_its_name_and_make_no_sweep():
    found = plan(methods=["mib"], overrides={WEIGHT: 7, "recipe.batch_size": 4})
    ((name, spec),) = increments(found).items()
    assert name == ("small@batch-size=4", "mib@distillation-weight=7") and not found.sweeps
    assert spec["recipe"]["batch_size"] == 4 and spec["method"]["hyper_parameters"]["distillation_weight"] == 7


def test_a_change_of_the_base_step_is_trained_from_there():
    found = plan(methods=["mib"], sweep={"recipe.batch_size": [2, 4]})
    assert sum(directory.startswith("base/") for directory in found.trainings) == 2


def test_a_sweep_has_a_table_and_a_figure_for_each_scenario_and_setting():
    found = plan(scenarios=["6-6", "6-3"], settings=["overlapped", "disjoint"], sweep={WEIGHT: [1, 10]})
    assert len({sweep.name for sweep in found.sweeps}) == 4
    jobs = {job.name: job for job in plan_jobs(found, Path("results"))}
    for sweep in found.sweeps:
        outputs = {file.relative_to("results").as_posix() for file in jobs[f"figures/{sweep.name}"].outputs}
        assert {f"tables/{sweep.name}/sweep.csv", f"figures/{sweep.name}/sweep.svg"} <= outputs
        assert json.loads(json.dumps(sweep.spec)) == sweep.spec


def test_the_resolved_configuration_gives_the_same_plan():
    found = plan(sweep={WEIGHT: [1, 10], RATE: [0.01, 0.05]})
    again = Plan(parse_config(found.config.model_dump(exclude_defaults=True)))
    assert increments(again) == increments(found) and again.sweeps == found.sweeps


def test_points_are_in_the_order_of_the_values_as_listed():
    (sweep,) = plan(methods=["mib"], sweep={WEIGHT: [100, 1], RATE: [0.05, 0.01]}).sweeps
    assert [list(values.values()) for *_, values in sweep.spec["points"]] == [
        [100, 0.05], [100, 0.01], [1, 0.05], [1, 0.01]
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("experiment", "said"),
    [
        (
            {"sweep": {"method.distilation_weight": [1, 2]}},
            "experiments[0].sweep: 'method.distilation_weight': no method of the experiment has it: unknown hyper-parameter "
            "'distilation_weight'; did you mean 'distillation_weight'?",
        ),
        (
            {"overrides": {"recipe.optimizer.learning_rate": 1}},
            "experiments[0]: 'recipe.optimizer.learning_rate': unknown key of the recipe 'optimizer'; did you mean 'optimiser'?",
        ),
        ({"sweep": {"recipe.batch_size": [2, 0]}}, "experiments[0]: recipe 'small@batch-size=0': batch_size: "),
        ({"sweep": {WEIGHT: [1, "much"]}}, "experiments[0].methods[1] with method.distillation_weight much: "),
        (
            {"methods": [{"name": "mib", "hyper_parameters": {"distillation_weight": 3}}], "sweep": {WEIGHT: [1, 2]}},
            "experiments[0].methods[0] ('mib') sets 'distillation_weight' as well",
        ),
        (
            {"sweep": {WEIGHT: [1, 10], "recipe.schedule.power": [0.9, 1.0]}, "recipe": "own-schedules"},
            "experiments[0].sweep: recipe.schedule.power 0.9 and 1.0 make identical runs",
        ),
        ({"sweep": {"recipe.network.chanels": [8]}}, "has no argument 'chanels'; did you mean 'channels'?"),
    ],
)
def test_a_sweep_that_cannot_be_is_one_clear_line(experiment: dict[str, Any], said: str):
    falling = {"schedule": {"name": "constant"}}
    recipes = {"small": RECIPE, "own-schedules": {"extends": "small", "base": falling, "increment": falling}}
    entry = {"dataset": "toy", "scenarios": ["6-6"], "recipe": "small", "methods": ["finetuning", "mib"], **experiment}
    content = {
        "schema_version": 1,
        "datasets": {"toy": {"kind": "shapes", "stuff": 6, "things": 6}},
        "recipes": recipes,
        "experiments": [entry],
    }
    with pytest.raises(ConfigError, match=re.escape(said)) as error:
        Plan(parse_config(content))
    assert "\n" not in str(error.value)


def test_validation_is_a_dataset_of_its_own_made_from_the_whole_one():
    found = plan(sweep={WEIGHT: [1, 10]}, validation={"fraction": 0.2})
    name = "toy@validation=0.2"
    assert {run.dataset for run in found.runs} == {name} == set(found.parts) and found.datasets == ("toy",)
    assert {training.spec["dataset"] for training in found.trainings.values()} == {name}
    assert {evaluation.spec["dataset"] for evaluation in found.evaluations.values()} == {name}
    jobs = {job.name: job for job in plan_jobs(found, Path("results"))}
    part = jobs[f"data/{name}/dataset.json"]
    assert part.spec == {"name": name, "fraction": 0.2, "seed": 0}
    assert [read.made_by for read in part.inputs.values()] == ["data/toy/dataset.json"]
    assert found.sweeps[0].spec["images"] == "validation"
    assert "not comparable" in found.notes[name, "semantic", "small"]


def test_runs_with_and_without_validation_share_nothing_but_the_prepared_images():
    tested, chosen = plan(), plan(validation={"fraction": 0.2})
    other = plan(validation={"fraction": 0.2, "seed": 1})
    for one, two in ((tested, chosen), (tested, other), (chosen, other)):
        assert not one.trainings.keys() & two.trainings.keys() and not one.splits.keys() & two.splits.keys()


@pytest.mark.parametrize(
    ("experiment", "said"),
    [
        ({"validation": {"fraction": 1}}, "validation.fraction: input should be less than 1"),
        ({"validation": {"fraction": 0}}, "validation.fraction: input should be greater than 0"),
        ({"validation": {"fraction": 0.2}, "settings": ["partition"]}, "does not go with the setting 'partition'"),
        (
            {
                "validation": {"fraction": 0.2},
                "base_checkpoint": {"file": "a.pth", "format": "mib", "sha256": "0" * 64},
            },
            "holds images out that released weights and base checkpoints were trained on",
        ),
    ],
)
def test_validation_that_cannot_be_is_one_clear_line(experiment: dict[str, Any], said: str):
    with pytest.raises(ConfigError, match=re.escape(said)):
        plan(**experiment)
