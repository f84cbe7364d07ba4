"""Which images the steps of a scenario train on, in every setting; those of the setting ``partition`` are listed in files."""

from __future__ import annotations

from collections.abc import Sequence

from model.config.messages import ConfigError
from model.config.schema import DatasetEntry, Experiment
from model.data.prepared.dataset import Category
from model.data.sources import registry as sources
from model.scenario import JOINT, Scenario, ScenarioError
from model.splits.image_lists import ImageList, ImageListError, configured_lists, published_lists
from model.workflow.jobs import Split


def splits_of(
    experiment: Experiment,
    scenario: Scenario,
    setting: str,
    dataset: DatasetEntry,
    categories: Sequence[Category],
    where: str,
) -> tuple[tuple[Split, ...], Split]:
    """Splits of every step, and of all classes at once.

    Raises:
        ConfigError: if the setting reads lists of images and there are none for the scenario.
    """
    lists: Sequence[ImageList | None] = [None] * len(scenario)
    if setting == "partition":
        lists = _lists(experiment, scenario, dataset, categories, where)
    by = experiment.images_by if experiment.images_by != experiment.task else None
    steps = []
    for index, image_list in enumerate(lists):
        rule = "disjoint" if setting == "sequential" and index == 0 else setting
        steps.append(Split(experiment.dataset, experiment.task, rule, scenario.step(index), by, image_list))
    every = Scenario.from_name(JOINT, scenario.order).step(0)
    return tuple(steps), Split(experiment.dataset, experiment.task, "overlapped", every, by)


def _lists(
    experiment: Experiment, scenario: Scenario, dataset: DatasetEntry, categories: Sequence[Category], where: str
) -> tuple[ImageList, ...]:
    """The user's own lists for this scenario, else the published ones for the same classes."""
    key = f"datasets.{experiment.dataset}.lists"
    if dataset.lists is None:
        raise ConfigError(
            f"{where}.settings: 'partition' needs image lists; give under {key} the folder they are in, or 'download: true' "
            "(docs/protocols.md)"
        )
    if scenario.name in dataset.lists.files:
        files, entries = dataset.lists.files[scenario.name], dataset.lists.entries
        try:
            return configured_lists(files, entries, len(scenario), scenario.name)
        except ImageListError as error:
            raise ConfigError(f"{key}.files: {error}") from None
    published = published_lists(dataset.kind) if experiment.task == "semantic" else ()
    for lists in published:
        if _released(lists.scenario, experiment, dataset, categories) == [set(step) for step in scenario.increments]:
            return lists.steps
    known = ", ".join(lists.scenario for lists in published) or "none"
    raise ConfigError(
        f"{where}.scenarios: no list of images is published for '{scenario.name}' of '{experiment.dataset}' "
        f"({experiment.task}; published: {known}); name your own under {key}.files"
    )


def _released(
    name: str, experiment: Experiment, dataset: DatasetEntry, categories: Sequence[Category]
) -> list[set[int]]:
    """Classes of each step of a scenario in the published order, whatever the configuration calls it."""
    orders = sources.orders(dataset.kind, dataset.options, experiment.task)
    try:
        scenario = Scenario.from_name(name, [c.id for c in categories], orders)
    except ScenarioError:  # other data in the same layout, with other classes
        return []
    return [set(step) for step in scenario.increments]
