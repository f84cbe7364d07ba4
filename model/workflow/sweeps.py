"""From experiments as they are configured to experiments of single runs: overrides applied, sweeps written out.

A sweep becomes one experiment for each of its recipes, whose methods are there once for each of their values. From then on every
combination is an ordinary run; what remains of the sweep is the list of runs that its table and its figure are about.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from model.common.fingerprints import canonical_json
from model.common.names import unknown_name
from model.config.messages import ConfigError
from model.config.recipes import parse_recipe
from model.config.schema import Config, Experiment, ExplicitScenario, MethodEntry, Recipe
from model.config.sweeps import METHOD, RECIPE, changed_recipe, combinations, value_text, variant_name
from model.methods.registry import Family, MethodError
from model.workflow.catalogue import hyper_parameter_names
from model.workflow.jobs import Run


@dataclass(frozen=True)
class Point:
    """A method of a sweep with certain values.

    Attributes:
        recipe, method: names that its runs have.
        base: the method's name without the values.
        values: by key, as far as they concern it; none for a method that the sweep does not change.
    """

    recipe: str
    method: str
    base: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Single:
    """An experiment without overrides or a sweep.

    Attributes:
        experiment: with the resulting recipe and methods.
        where: it stands in the configuration, for messages.
        places: the same for each of its methods.
    """

    experiment: Experiment
    where: str
    places: tuple[str, ...]


@dataclass(frozen=True)
class Grid:
    """A sweep as it is configured.

    Attributes:
        experiment: that it belongs to.
        where: the experiment stands in the configuration.
        axes: values by key.
        points: all methods with all their values.
    """

    experiment: Experiment
    where: str
    axes: Mapping[str, Sequence[Any]]
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Sweep:
    """The part of a grid that one table and one figure show: one scenario and setting.

    Attributes:
        name: of its folder.
        spec: what selects its rows in the tables: dataset, task, scenario, setting, the recipe's own name, protocols, keys with
            their values, and the points.
    """

    name: str
    spec: Mapping[str, Any]


@dataclass(frozen=True)
class Part:
    """A dataset some of whose training images are held out.

    Attributes:
        name: that folders and tables use.
        whole: the dataset's own name.
        fraction, seed: as :class:`model.config.schema.Validation`.
    """

    name: str
    whole: str
    fraction: float
    seed: int

    @classmethod
    def of(cls, experiment: Experiment) -> Part:
        """That of an experiment with ``validation``."""
        wanted = experiment.validation
        assert wanted is not None
        values = {".validation": wanted.fraction} | ({".seed": wanted.seed} if wanted.seed else {})
        return cls(variant_name(experiment.dataset, values), experiment.dataset, wanted.fraction, wanted.seed)

    @property
    def spec(self) -> dict[str, Any]:
        """What it depends on besides the whole dataset."""
        return {"name": self.name, "fraction": self.fraction, "seed": self.seed}

    @property
    def note(self) -> str:
        """What stands below tables."""
        return (
            f"validation: {self.fraction:.3g} of the training images of {self.whole}, which no step trained on; not comparable "
            "with results on its own validation or test images"
        )


@dataclass(frozen=True)
class Expansion:
    """What a configuration says when nothing is left to be written out.

    Attributes:
        singles: experiments.
        recipes: by name, those of overrides and sweeps among them.
        parts: datasets with held-out training images, by name.
        grids: one for each experiment with a sweep.
    """

    singles: tuple[Single, ...]
    recipes: Mapping[str, Recipe]
    grids: tuple[Grid, ...]
    parts: Mapping[str, Part]


def expanded(config: Config) -> Expansion:
    """Apply overrides and write sweeps out.

    Raises:
        ConfigError: for a key that neither the recipe nor any method has, or one that a method sets as well.
    """
    singles: list[Single] = []
    grids: list[Grid] = []
    recipes, parts = dict(config.recipes), {}
    for index, experiment in enumerate(config.experiments):
        where = f"experiments[{index}]"
        if experiment.validation is not None:
            part = Part.of(experiment)
            parts[part.name] = part
            experiment = experiment.model_copy(update={"dataset": part.name})
        if not (experiment.overrides or experiment.sweep):
            singles.append(Single(experiment, where, tuple(_places(where, experiment.methods))))
            continue
        axes = {**{key: [value] for key, value in experiment.overrides.items()}, **experiment.sweep}
        owners = _owners(experiment, recipes[experiment.recipe].family, axes, where)
        points: list[Point] = []
        for chosen in combinations({key: values for key, values in axes.items() if key.startswith(RECIPE)}):
            name = variant_name(experiment.recipe, chosen)
            recipes[name] = _recipe(recipes[experiment.recipe], name, chosen, where)
            found = list(_entries(experiment, axes, owners, where))
            entries = [entry for entry, _, _, _ in found]
            changed = {"recipe": name, "methods": entries, "overrides": {}, "sweep": {}}
            places = tuple(place for _, place, _, _ in found)
            singles.append(Single(experiment.model_copy(update=changed), where, places))
            for entry, _, base, values in found:
                all_values = {**chosen, **values}
                own = {key: all_values[key] for key in experiment.sweep if key in all_values}
                points.append(Point(name, entry.title, base, own))
        if experiment.sweep:
            points.sort(
                key=lambda point: [list(v).index(point.values[k]) for k, v in axes.items() if k in point.values]
            )
            grids.append(Grid(experiment, where, experiment.sweep, tuple(points)))
    return Expansion(tuple(singles), recipes, tuple(grids), parts)


def notes_of(expansion: Expansion) -> dict[tuple[str, str, str], str]:
    """Remarks below tables, by dataset, task and recipe."""
    found: dict[tuple[str, str, str], str] = {}
    for single in expansion.singles:
        experiment = single.experiment
        said = [expansion.parts[experiment.dataset].note] if experiment.dataset in expansion.parts else []
        said += [experiment.note] if experiment.note else []
        if said:
            found[experiment.dataset, experiment.task, experiment.recipe] = "; ".join(said)
    return found


def sweeps_of(grids: Iterable[Grid], runs: Sequence[Run]) -> tuple[Sweep, ...]:
    """What each table and figure of sweeps shows.

    Raises:
        ConfigError: if two combinations of a sweep are the same runs.
    """
    found: dict[str, Sweep] = {}
    for grid in grids:
        titles = {(point.recipe, point.method) for point in grid.points}
        cells = product(map(_scenario_name, grid.experiment.scenarios), grid.experiment.settings)
        for scenario, setting in cells:
            cell = (grid.experiment.dataset, grid.experiment.task, scenario, setting)
            own = [run for run in runs if (run.dataset, run.task, run.scenario.name, run.setting) == cell]
            own = [run for run in own if (run.recipe, run.method) in titles]
            _refuse_identical(grid, own)
            sweep = _sweep(grid, own[0], scenario, setting)
            number = sum(name.partition("+")[0] == sweep.name for name in found)
            name = sweep.name if not number else f"{sweep.name}+{number + 1}"
            found[name] = Sweep(name, sweep.spec)
    return tuple(found.values())


def _sweep(grid: Grid, run: Run, scenario: str, setting: str) -> Sweep:
    experiment = grid.experiment
    keys = "_".join(variant_name("", {key: ""}).strip("@=") for key in grid.axes)
    spec = {
        "dataset": run.dataset,
        "task": run.task,
        "scenario": scenario,
        "setting": setting,
        "recipe": experiment.recipe,
        "images": "validation" if experiment.validation else "test",
        "protocols": list(experiment.protocols),
        "keys": {key: list(values) for key, values in grid.axes.items()},
        "points": [[point.recipe, point.method, point.base, dict(point.values)] for point in grid.points],
    }
    return Sweep(f"{run.dataset}_{run.task}_{scenario}_{setting}_{experiment.recipe}_sweep_{keys}", spec)


def _scenario_name(wanted: str | ExplicitScenario) -> str:
    return wanted if isinstance(wanted, str) else wanted.name


def _places(where: str, methods: Sequence[MethodEntry]) -> Iterator[str]:
    yield from (f"{where}.methods[{number}]" for number in range(len(methods)))


def _owners(
    experiment: Experiment, family: Family, axes: Mapping[str, Sequence[Any]], where: str
) -> dict[str, set[int]]:
    """Which of the experiment's methods have each of the hyper-parameters."""
    try:
        known = [set(hyper_parameter_names(entry.name, family)) for entry in experiment.methods]
    except MethodError as error:
        raise ConfigError(f"{where}.methods: {error} (recipe '{experiment.recipe}')") from None
    owners: dict[str, set[int]] = {}
    for key in axes:
        if not key.startswith(METHOD):
            continue
        name, place = key.removeprefix(METHOD), f"{where}.{'sweep' if key in experiment.sweep else 'overrides'}"
        owners[key] = {number for number, names in enumerate(known) if name in names}
        if not owners[key]:
            unknown = unknown_name("hyper-parameter", name, set().union(*known))
            raise ConfigError(f"{place}: '{key}': no method of the experiment has it: {unknown}")
        for number in owners[key]:
            entry = experiment.methods[number]
            if any(name in values for values in (entry.hyper_parameters, *entry.steps.values())):
                raise ConfigError(
                    f"{place}: '{key}': {where}.methods[{number}] ('{entry.title}') sets '{name}' as well; leave it to one of "
                    "them"
                )
    return owners


def _entries(
    experiment: Experiment, axes: Mapping[str, Sequence[Any]], owners: Mapping[str, set[int]], where: str
) -> Iterator[tuple[MethodEntry, str, str, dict[str, Any]]]:
    """Each method with each of its values: the entry, where it stands, its name without them, and the values."""
    for number, (entry, place) in enumerate(zip(experiment.methods, _places(where, experiment.methods), strict=True)):
        own = {key: values for key, values in axes.items() if number in owners.get(key, ())}
        for chosen in combinations(own):
            if not chosen:
                yield entry, place, entry.title, {}
                continue
            values = {key.removeprefix(METHOD): value for key, value in chosen.items()}
            named = entry.label is not None or ":" not in entry.name  # or planning asks for a label
            label = variant_name(entry.title, chosen) if named else None
            changed = {"label": label, "hyper_parameters": {**entry.hyper_parameters, **values}}
            said = ", ".join(f"{key} {value_text(value)}" for key, value in chosen.items())
            yield entry.model_copy(update=changed), f"{place} with {said}", entry.title, chosen


def _recipe(recipe: Recipe, name: str, chosen: Mapping[str, Any], where: str) -> Recipe:
    if not chosen:
        return recipe
    try:
        content = changed_recipe(recipe.model_dump(), chosen)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None
    return parse_recipe(content, f"{where}: recipe '{name}'")


def _refuse_identical(grid: Grid, runs: Sequence[Run]) -> None:
    """Refuse a grid in which some values change nothing that a run depends on.

    A method that does not have a swept hyper-parameter is the same run throughout; it is one only, and no mistake.
    """
    specs = {(run.recipe, run.method): run for run in runs if run.seed == grid.experiment.seeds[0]}
    known: dict[str, dict[str, Any]] = {}
    for chosen in combinations(grid.axes):
        own = {
            point.base: _specs(specs[point.recipe, point.method])
            for point in grid.points
            if all(chosen[key] == value for key, value in point.values.items())
        }
        before = known.setdefault(canonical_json(own), chosen)
        if before is not chosen:
            differ = [key for key in chosen if chosen[key] != before[key]]
            said = ", ".join(f"{k} {value_text(before[k])} and {value_text(chosen[k])}" for k in differ)
            raise ConfigError(
                f"{grid.where}.sweep: {said} make identical runs: nothing that is trained or evaluated depends on it; "
                "remove the key"
            )


def _specs(run: Run) -> list[Any]:
    evaluations = [one.spec for several in run.evaluations.values() for one in several]
    return [[training.spec for training in run.trainings], evaluations]
