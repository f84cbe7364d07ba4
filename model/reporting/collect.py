"""From a plan to measurements: which evaluation belongs to which run and step."""

from __future__ import annotations

from pathlib import Path

from model.reporting.records import Measurement, measure
from model.reporting.records import Run as Identity
from model.scenario import class_groups
from model.workflow.jobs import Run
from model.workflow.plan import Plan


def identity(run: Run) -> Identity:
    """The identity that a run's rows carry in a table."""
    return Identity(run.dataset, run.task, run.scenario.name, run.setting, run.recipe, run.method, run.seed)


def step_of(run: Run, position: int) -> int:
    """The step of a run's ``position``-th training: a joint run has a single one, after everything is learnt."""
    return run.scenario.last if run.joint else position


def collect(plan: Plan, results: Path) -> list[Measurement]:
    """Read every evaluation of a plan, with the groups of the run it belongs to.

    Args:
        plan: the plan of a configuration.
        results: folder that its paths are relative to.

    Raises:
        RecordError: if an evaluation is missing, damaged or belongs to another run; nothing is left out silently.
    """
    found = []
    for run in plan.runs:
        for evaluations in run.evaluations.values():
            for position, evaluation in enumerate(evaluations):
                step = step_of(run, position)
                path = results / evaluation.directory / "evaluation.json"
                found.append(measure(path, identity(run), step, class_groups(run.scenario, step)))
    return found
