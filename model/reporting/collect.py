"""From a plan to measurements: which evaluation belongs to which run and step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from model.evaluation.metrics.confusion import ConfusionMatrix
from model.evaluation.metrics.mean_iou import semantic_scores
from model.evaluation.protocols import Protocol, get
from model.reporting.records import CONFUSION, EvaluationRecord, Measurement, RecordError, measure
from model.reporting.records import Run as Identity
from model.reporting.resampling import Resampled, resampled
from model.scenario import class_groups
from model.workflow.jobs import Run
from model.workflow.plan import Plan


def identity(run: Run) -> Identity:
    """The identity that a run's rows carry in a table."""
    return Identity(run.dataset, run.task, run.scenario.name, run.setting, run.recipe, run.method, run.seed)


def step_of(run: Run, position: int) -> int:
    """The step of a run's ``position``-th training: of joint and released runs there is one, after the last or a named step."""
    if run.released is not None:
        return run.released_step
    return run.scenario.last if run.joint else position


def steps_of(run: Run, position: int) -> range:
    """Steps that the evaluation after a run's ``position``-th training says something about: all of them for a joint run."""
    step = step_of(run, position)
    return range(step + 1) if run.joint else range(step, step + 1)


def released_rows(plan: Plan) -> dict[tuple[str, ...], tuple[str, bool]]:
    """Rows that evaluate released weights.

    Returns:
        (dataset, task, setting, recipe, scenario, row) → the method, and whether its weights are those after the last step.
    """
    return {
        (run.dataset, run.task, run.setting, run.recipe, run.scenario.name, run.method): (
            run.released,
            run.released_step == run.scenario.last,
        )
        for run in plan.runs
        if run.released is not None
    }


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


@dataclass
class Ranked:
    """What the methods of one scenario and setting are ranked by, whatever their networks.

    Attributes:
        matrices: method → raw counts after the last step, one per seed.
        score: mIoU of all classes, under the runs' first protocol.
    """

    matrices: dict[str, list[ConfusionMatrix]]
    score: Callable[[ConfusionMatrix], float]


def ranked(plan: Plan, results: Path) -> dict[tuple[str, str, str, str], Ranked]:
    """The last evaluations of the runs on datasets that are ranked, by dataset, task, scenario and setting.

    A method that several networks have is taken with the first of them.

    Raises:
        RecordError: if an evaluation is missing, damaged, or does not tell images apart.
    """
    found: dict[tuple[str, str, str, str], Ranked] = {}
    recipes: dict[tuple[str, ...], str] = {}
    for run in plan.runs:
        table = (run.dataset, run.task, run.scenario.name, run.setting)
        if run.dataset not in plan.config.ranked_against or run.task != "semantic":
            continue
        if recipes.setdefault((*table, run.method), run.recipe) != run.recipe:
            continue
        path = results / next(iter(run.evaluations.values()))[-1].directory / "evaluation.json"
        record = EvaluationRecord.read(path)
        matrix = ConfusionMatrix.load(path.parent / record.files[CONFUSION])
        if matrix.parts is None:
            raise RecordError(f"{path} does not tell images apart: delete it to evaluate again")
        if table not in found:
            groups = class_groups(run.scenario, run.scenario.last)
            found[table] = Ranked({}, partial(_miou, groups, get(record.protocol), record.background_is_labelled))
        found[table].matrices.setdefault(run.method, []).append(matrix)
    return found


def _miou(
    groups: Mapping[str, Sequence[int]], protocol: Protocol, background_is_labelled: bool, matrix: ConfusionMatrix
) -> float:
    return semantic_scores(matrix, groups, protocol, background_is_labelled).groups["all"]["mIoU"]


def resampled_runs(plan: Plan, results: Path) -> dict[tuple[str, ...], dict[str, dict[int, Resampled]]]:
    """The evaluations after the last step whose images can be drawn anew.

    Returns:
        (dataset, task, scenario, setting, recipe, protocol) → method → seed → evaluation; released weights of earlier steps and
        tasks whose counts of single images are not kept are left out.

    Raises:
        RecordError: if an evaluation is missing or damaged.
    """
    found: dict[tuple[str, ...], dict[str, dict[int, Resampled]]] = {}
    for run in plan.runs:
        last = len(run.trainings) - 1
        if step_of(run, last) != run.scenario.last:
            continue
        groups = class_groups(run.scenario, run.scenario.last)
        for protocol, evaluations in run.evaluations.items():
            evaluation = resampled(results / evaluations[-1].directory / "evaluation.json", groups)
            if evaluation is not None:
                key = (run.dataset, run.task, run.scenario.name, run.setting, run.recipe, protocol)
                found.setdefault(key, {}).setdefault(run.method, {})[run.seed] = evaluation
    return found
