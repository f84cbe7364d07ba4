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


def steps_of(run: Run, position: int) -> range:
    """Steps that the evaluation after a run's ``position``-th training says something about: all of them for a joint run."""
    step = step_of(run, position)
    return range(step + 1) if run.joint else range(step, step + 1)


def collect(plan: Plan, results: Path) -> list[Measurement]:
    """Read every evaluation of a plan, with the groups of the run it belongs to.

    The upper bound is averaged at every step, over the classes that a method has learnt by then: at an early step these are fewer
    classes, and often easier ones, than at the last.

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
                last = step_of(run, position)
                path = results / evaluation.directory / "evaluation.json"
                for step in steps_of(run, position):
                    groups = class_groups(run.scenario, step)
                    found.append(measure(path, identity(run), step, groups, known_later=step < last))
    return found
