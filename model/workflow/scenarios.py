"""Which classes the steps of a configured scenario learn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from model.common.names import unknown_name
from model.config.messages import ConfigError
from model.config.schema import DatasetEntry, Experiment, ExplicitScenario, Memory, Recipe
from model.data.prepared.dataset import Category
from model.data.sources import registry as sources
from model.scenario import JOINT, Scenario, ScenarioError
from model.workflow.jobs import MemoryJob, Split


@dataclass(frozen=True)
class Cell:
    """What all methods of a scenario have in common: one cell of an experiment's table."""

    experiment: Experiment
    recipe: Recipe
    scenario: Scenario
    setting: str
    seed: int
    steps: tuple[Split, ...]
    """Images of every step. The base step of ``sequential`` is that of ``disjoint``: there are no past labels to keep."""
    together: Split
    """Images of the upper bound: all that have a class."""


def scenario_of(
    experiment: Experiment,
    wanted: str | ExplicitScenario,
    dataset: DatasetEntry,
    categories: Sequence[Category],
    where: str,
) -> Scenario:
    """A scenario of an experiment, by its name or by its lists of classes.

    Args:
        experiment: that names it.
        wanted: the entry of ``scenarios``.
        dataset: of the experiment.
        categories: all classes of the dataset; instance segmentation learns the things among them.
        where: of the experiment in the configuration, for messages.

    Raises:
        ConfigError: if the classes cannot be divided like that.
    """
    allowed = [c for c in categories if c.isthing or experiment.task != "instance"]
    try:
        if isinstance(wanted, ExplicitScenario):
            return _explicit(wanted, allowed, experiment.dataset)
        if wanted == JOINT:
            raise ScenarioError("'joint' is a method, not a scenario: list it under 'methods'")
        orders = {**sources.orders(dataset.kind, dataset.options, experiment.task), **dataset.orders}
        return Scenario.from_name(wanted, [c.id for c in allowed], orders)
    except ScenarioError as error:
        raise ConfigError(f"{where}.scenarios: {error}") from None


def memory_of(cell: Cell, wanted: Memory, index: int) -> MemoryJob | None:
    """The exemplars that a step replays; none in the base step."""
    if index == 0:
        return None
    return MemoryJob(
        cell.experiment.dataset,
        cell.experiment.task,
        cell.setting,
        cell.scenario.name,
        wanted.selection,
        wanted.size,
        cell.seed,
        cell.scenario.step(index),
        memory_of(cell, wanted, index - 1),
        cell.steps[index - 1],
    )


def _explicit(wanted: ExplicitScenario, allowed: Sequence[Category], dataset: str) -> Scenario:
    ids = {c.name: c.id for c in allowed} | {c.id: c.id for c in allowed}
    for name in (name for step in wanted.steps for name in step):
        if name not in ids:
            unknown = unknown_name("class", str(name), [c.name for c in allowed])
            raise ScenarioError(f"scenario '{wanted.name}': {unknown} (dataset '{dataset}')")
    return Scenario(wanted.name, tuple(tuple(ids[name] for name in step) for step in wanted.steps))
