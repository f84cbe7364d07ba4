"""Changing one method's hyper-parameter changes the jobs that depend on it, and no others.

Snakemake runs a job again when its specification changes (tests/workflow/test_rerun.py), so it is specifications that are
compared here, on the configuration that has all methods.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from model.config.reading import parse_config
from model.workflow.plan import Plan

PROJECT = Path(__file__).parents[3]
DEMO = yaml.safe_load((PROJECT / "config/demo-methods.yaml").read_text(encoding="utf-8"))


def plan(config: dict[str, Any]) -> Plan:
    return Plan(parse_config(config, recipes=PROJECT / "config/recipes"))


def changed(method: str, **hyper_parameters: object) -> tuple[set[str], set[str], set[str]]:
    """What a method's hyper-parameters change: folders of trainings, of evaluations, and methods that use these."""
    config = copy.deepcopy(DEMO)
    for experiment in config["experiments"]:
        experiment["methods"] = [
            {"name": method, "hyper_parameters": {**entry["hyper_parameters"], **hyper_parameters}}
            if isinstance(entry, dict) and entry["name"] == method
            else entry
            for entry in experiment["methods"]
        ]
    before, after = plan(DEMO), plan(config)

    def new(jobs: str) -> set[str]:
        known = getattr(before, jobs)
        found = getattr(after, jobs).items()
        return {directory for directory, job in found if directory not in known or job.spec != known[directory].spec}

    trainings, evaluations = new("trainings"), new("evaluations")
    users = {
        run.method
        for run in after.runs
        if trainings.intersection(training.directory for training in run.trainings)
        or evaluations.intersection(job.directory for jobs in run.evaluations.values() for job in jobs)
    }
    return trainings, evaluations, users


def test_the_threshold_of_eclipse_is_a_matter_of_evaluation() -> None:
    trainings, evaluations, users = changed("eclipse", deltas=[0.3, 0.3])
    assert not trainings
    assert users == {"eclipse"}
    assert any("/step2/" in directory for directory in evaluations)


@pytest.mark.parametrize(
    ("method", "hyper_parameters"),
    [
        ("star", {"head_factor": 2.0}),  # of the base step too: star gets one of its own, star-m keeps what it has
        ("star-m", {"consistency_weight": 3.0}),
        ("ssul", {"backbone_factor": 0.5}),
        ("eclipse", {"increment_class_weight": 5.0}),
    ],
)
def test_a_hyper_parameter_of_a_method_trains_that_method_again(method: str, hyper_parameters: dict[str, Any]) -> None:
    trainings, _, users = changed(method, **hyper_parameters)
    assert users == {method}
    assert {directory[-5:] for directory in trainings} >= {"step1", "step2"}
