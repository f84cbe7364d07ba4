"""From a plan to measurements: which evaluation belongs to which run and step."""

from __future__ import annotations

from pathlib import Path

from model.reporting.records import Measurement, measure
from model.reporting.records import Run as Identity
from model.scenario import class_groups
from model.workflow.jobs import Run
from model.workflow.plan import Plan


def identity(run: Run) -> Identity:
    """What the rows of a table carry."""
    return Identity(run.dataset, run.task, run.scenario.name, run.setting, run.recipe, run.method, run.seed)


def step_of(run: Run, position: int) -> int:
    """Step that the ``position``-th training of a run stands for: a joint run has one, after everything is learnt."""
    return run.scenario.last if run.joint else position


def collect(plan: Plan, results: Path) -> list[Measurement]:
    """Read and evaluate every evaluation of a plan.

    Args:
        plan: of the configuration.
        results: folder that its paths are relative to.

    Raises:
        RecordError: if an evaluation is missing, damaged or of another run; nothing is left out silently.
    """
    found = []
    for run in plan.runs:
        for evaluations in run.evaluations.values():
            for position, evaluation in enumerate(evaluations):
                step = step_of(run, position)
                path = results / evaluation.directory / "evaluation.json"
                found.append(measure(path, identity(run), step, class_groups(run.scenario, step)))
    return found
