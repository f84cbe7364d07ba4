"""From a configuration to jobs: which trainings, memories, splits and evaluations its experiments need.

The workflow's rules only look things up here. Every job is identified by its folder inside the results, and described by a
*spec*: plain data that contains exactly what the job depends on. Two jobs with equal specs are one job, which is how a base
step is shared: 100-50, 100-10 and 100-5, and all methods that do nothing special at step 0, continue from one training.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from model.common.environment import not_set
from model.common.fingerprints import canonical_json, short_hash
from model.common.names import unknown_name
from model.config.messages import ConfigError
from model.config.schema import Config, DatasetEntry, Experiment, MethodEntry, Released
from model.data.prepared.dataset import Category
from model.data.prepared.labels import MOST_CLASSES
from model.data.sources import registry as sources
from model.evaluation import protocols
from model.evaluation.evaluators import registry as evaluators
from model.methods import registry as methods
from model.scenario import Scenario
from model.training.spec import RecipeSpec
from model.workflow.catalogue import MethodFacts, check_method, method_facts
from model.workflow.imported_files import check_released, imported_training
from model.workflow.jobs import Comparison, Evaluation, MemoryJob, Run, Split, Training
from model.workflow.results_folder import check_folders
from model.workflow.scenarios import Cell, memory_of, scenario_of
from model.workflow.step_images import splits_of
from model.workflow.suitable_recipes import check_configured, suitable_recipe, suits
from model.workflow.sweeps import Single, expanded, notes_of, sweeps_of


class Plan:
    """All jobs of a configuration.

    Args:
        config: a validated configuration.

    Raises:
        ConfigError: for a combination that cannot be run; the message names the experiment, the key and the remedy.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.categories: dict[str, tuple[Category, ...]] = {}
        self.trainings: dict[str, Training] = {}
        self.evaluations: dict[str, Evaluation] = {}
        self.runs: list[Run] = []
        self._keys: set[tuple[Any, ...]] = set()
        self._recipes: dict[str, RecipeSpec] = {}
        self._facts: dict[tuple[str, str, str], MethodFacts] = {}
        self._resolved: dict[tuple[str, bool, int], dict[str, Any]] = {}
        self._scenarios: dict[tuple[str, str, str], Scenario] = {}
        written_out = expanded(config)
        self.recipes, self.parts, self.notes = written_out.recipes, written_out.parts, notes_of(written_out)
        used = {experiment.dataset for experiment in config.experiments}
        for name in config.ranked_against:
            if name not in used:
                raise ConfigError(f"ranked_against: {unknown_name('dataset of an experiment', name, used)}")
        check_folders(Path(config.results), {name: config.datasets[name] for name in used})
        for name in sorted(used):
            entry = config.datasets[name]
            try:
                prepared = Path(config.results) / "data" / name
                self.categories[name] = tuple(sources.categories(entry.kind, entry.options, prepared))
            except (ValueError, OSError) as error:
                raise ConfigError(f"datasets.{name}: {not_set(entry.options) or error}") from None
        for name, part in self.parts.items():
            self.categories[name] = self.categories[part.whole]
        for name in sorted({single.experiment.recipe for single in written_out.singles}):
            check_configured(name, self.recipes[name])
        for single in written_out.singles:
            self._expand(single)
        self.sweeps = sweeps_of(written_out.grids, self.runs)

    # ------------------------------------------------------------------------------------------------------ expansion

    def _expand(self, single: Single) -> None:
        experiment, where = single.experiment, single.where
        for name in experiment.protocols:
            if name not in protocols.known():
                raise ConfigError(f"{where}.protocols: {unknown_name('protocol', name, protocols.known())}")
        dataset, categories = self.dataset(experiment.dataset), self.categories[experiment.dataset]
        for wanted in experiment.scenarios:
            scenario = scenario_of(experiment, wanted, dataset, categories, where)
            named = self._scenarios.setdefault((experiment.dataset, experiment.task, scenario.name), scenario)
            if named != scenario:
                raise ConfigError(
                    f"{where}.scenarios: '{scenario.name}' already means other classes of '{experiment.dataset}'; "
                    "give it another name"
                )
            if self.recipes[experiment.recipe].family == "per-pixel" and len(scenario.order) > MOST_CLASSES:
                raise ConfigError(
                    f"{where}.scenarios: '{scenario.name}' has {len(scenario.order)} classes, but label maps of per-pixel "
                    f"networks hold {MOST_CLASSES}; use the recipe of a mask network, or fewer classes"
                )
            for setting in experiment.settings:
                steps, together = splits_of(experiment, scenario, setting, dataset, categories, where)
                recipe = self.recipes[experiment.recipe]
                for entry, place in zip(experiment.methods, single.places, strict=True):
                    method = self._method(experiment, setting, entry, scenario, place)
                    for seed in experiment.seeds:
                        cell = Cell(experiment, recipe, scenario, setting, seed, steps, together)
                        self._add(cell, entry, method, where)
                cell = Cell(experiment, recipe, scenario, setting, experiment.seeds[0], steps, together)
                for number, released in enumerate(experiment.released):
                    if released.scenario == scenario.name and (released.setting or experiment.settings[0]) == setting:
                        self._add_released(cell, released, f"{where}.released[{number}]")
        check_released(experiment, where)
        for name in experiment.protocols:
            family = self.recipes[experiment.recipe].family
            try:
                evaluators.check_protocol(family, experiment.task, protocols.get(name))
            except evaluators.EvaluatorError as error:
                raise ConfigError(f"{where}.protocols: {error}") from None

    def _method(
        self,
        experiment: Experiment,
        setting: str,
        entry: MethodEntry,
        scenario: Scenario,
        where: str,
        replays: bool = True,
    ) -> MethodFacts:
        family = self.recipes[experiment.recipe].family
        try:
            method = self._method_facts(entry.name, entry.hyper_parameters, family)
            for values in map(entry.at_step, entry.steps):
                self._method_facts(entry.name, values, family)
        except ValueError as error:
            raise ConfigError(f"{where}: {error} (recipe '{experiment.recipe}')") from None
        try:
            recipe = self._resolved_recipe(experiment.recipe)
            for values in (entry.hyper_parameters, *map(entry.at_step, entry.steps)):
                check_method(entry.name, values, family, recipe, scenario, setting, experiment.task)
        except ValueError as error:
            owner = methods.resolve(entry.name, family)
            found = suitable_recipe(owner, f"{experiment.recipe}-{entry.name}", self.recipes)
            unsuitable = not suits(self.recipes[experiment.recipe], owner)
            hint = f"; recipe '{found}' does" if found and unsuitable else ""
            raise ConfigError(f"{where}: '{entry.name}' with recipe '{experiment.recipe}': {error}{hint}") from None
        if entry.label is None and ":" in entry.name:
            raise ConfigError(f"{where}: give '{entry.name}' a 'label', which becomes part of paths and tables")
        memory = entry.memory or experiment.memory
        if method.memory_policy != "none" and memory is None and replays:
            raise ConfigError(
                f"{where}: '{entry.name}' replays exemplars; give the experiment a 'memory' with selection and size"
            )
        if memory is not None and method.memory_policy == "none" and entry.memory is not None:
            raise ConfigError(f"{where}.memory: '{entry.name}' replays nothing; remove the key")
        for step in entry.steps:
            if step > scenario.last:
                raise ConfigError(
                    f"{where}.steps: scenario '{scenario.name}' ends at step {scenario.last}, there is no step {step}"
                )
        return method

    def _add(self, cell: Cell, entry: MethodEntry, method: MethodFacts, where: str) -> None:
        if method.all_at_once:
            trainings = [self._base(cell, entry, method, cell.together)]
        else:
            trainings = [self._first(cell, entry, method, where)]
            for split in cell.steps[1:]:
                trainings.append(self._increment(cell, entry, method, split, trainings[-1]))
        experiment = cell.experiment
        evaluations = {
            name: tuple(self._evaluation(cell, entry, method, t, name) for t in trainings)
            for name in experiment.protocols
        }
        identity = experiment.dataset, experiment.task, cell.scenario, cell.setting, experiment.recipe, entry.title
        self._keep(Run(*identity, cell.seed, tuple(trainings), evaluations, method.all_at_once), where)

    def _add_released(self, cell: Cell, released: Released, where: str) -> None:
        """A run of released weights: one import, evaluated under every protocol."""
        experiment, scenario = cell.experiment, cell.scenario
        entry = MethodEntry(name=released.method, label=released.title, hyper_parameters=released.hyper_parameters)
        method = self._method(experiment, cell.setting, entry, scenario, where, replays=False)
        step = scenario.last if released.step is None else released.step
        if step > scenario.last:
            raise ConfigError(f"{where}.step: scenario '{scenario.name}' ends at step {scenario.last}")
        owner = self._method_facts(released.method, {}, cell.recipe.family)
        name = released.method
        training = imported_training(released, cell.recipe, scenario, cell.steps[step], name, owner, where)
        self._register(training)
        evaluations = {name: (self._evaluation(cell, entry, method, training, name),) for name in experiment.protocols}
        identity = (
            experiment.dataset,
            experiment.task,
            scenario,
            cell.setting,
            experiment.recipe,
            entry.title,
            cell.seed,
        )
        self._keep(Run(*identity, (training,), evaluations, False, released.method, step), where)

    def _keep(self, run: Run, where: str) -> None:
        if run.key in self._keys:
            raise ConfigError(f"{where}: the run {'/'.join(map(str, run.key))} is configured twice")
        self._keys.add(run.key)
        self.runs.append(run)

    def _resolved_recipe(self, name: str) -> RecipeSpec:
        """A recipe as an incremental step sees it."""
        if name not in self._recipes:
            self._recipes[name] = RecipeSpec.model_validate(self.recipes[name].resolved(step=1, classes=1))
        return self._recipes[name]

    def _method_facts(self, name: str, values: Mapping[str, Any], family: methods.Family) -> MethodFacts:
        """A method with checked hyper-parameters; checking takes longer than everything else that is planned."""
        key = (name, canonical_json(dict(values)), family)
        if key not in self._facts:
            self._facts[key] = method_facts(name, values, family)
        return self._facts[key]

    def _hyper_parameters(
        self, name: str, values: Mapping[str, Any], family: methods.Family, stage: Literal["train", "predict"]
    ) -> dict[str, Any]:
        return self._method_facts(name, values, family).hyper_parameters(stage)

    def _training_spec(self, cell: Cell, split: Split, name: str, values: Mapping[str, Any]) -> dict[str, Any]:
        step = split.step
        key = (cell.experiment.recipe, step.index == 0, len(step.current))
        if key not in self._resolved:
            self._resolved[key] = cell.recipe.resolved(step.index, len(step.current))
        if step.index == 0 and self._method_facts(name, values, cell.recipe.family).needs_future:
            step = replace(step, future=tuple(len(classes) for classes in cell.scenario.increments[1:]))
        spec = {
            "dataset": split.dataset,
            "task": split.task,
            "setting": split.setting,
            "seed": cell.seed,
            "step": step.plain,
            "method": {
                "name": name,
                "hyper_parameters": self._hyper_parameters(name, values, cell.recipe.family, "train"),
            },
            "recipe": dict(self._resolved[key]),
        }
        return {**spec, "selection": split.selection} if split.selection else spec

    def _base(self, cell: Cell, entry: MethodEntry, method: MethodFacts, split: Split) -> Training:
        name, values = entry.name, entry.at_step(0)
        if 0 not in entry.steps and (method.base_method is not None or method.base_fields is not None):
            name = method.base_method or entry.name
            values = {key: values[key] for key in method.base_fields or () if key in values}
        owner = self._method_facts(name, values, cell.recipe.family)
        spec = self._training_spec(cell, split, name, values)
        same = {k: v for k, v in spec.items() if k != "seed"}
        # Training does not depend on the evaluation size, but two recipes that differ in it evaluate one checkpoint twice.
        longest = cell.recipe.evaluation_longest
        seen_at = {"evaluation_size": cell.recipe.evaluation_size} | ({"longest": longest} if longest else {})
        key = short_hash(canonical_json({**same, **seen_at}), 8)
        network = cell.recipe.network["name"].rpartition(":")[2]  # of another package, the last part
        directory = f"base/{split.dataset}/{network}_{len(split.step.current)}-classes_{key}/seed{cell.seed}"
        return self._register(Training(directory, spec, split, None, None, owner))

    def _first(self, cell: Cell, entry: MethodEntry, method: MethodFacts, where: str) -> Training:
        """The base step, or the file that stands for it."""
        wanted = cell.experiment.base_checkpoint
        if wanted is None:
            return self._base(cell, entry, method, cell.steps[0])
        if method.needs_future:
            raise ConfigError(
                f"{where}.base_checkpoint: '{entry.name}' prepares its base step for all later classes, which no other file has "
                "done; leave 'base_checkpoint' out"
            )
        name, where = method.base_method or entry.name, f"{where}.base_checkpoint"
        owner = self._method_facts(name, {}, cell.recipe.family)
        return self._register(imported_training(wanted, cell.recipe, cell.scenario, cell.steps[0], name, owner, where))

    def _increment(
        self, cell: Cell, entry: MethodEntry, method: MethodFacts, split: Split, previous: Training
    ) -> Training:
        experiment, step = cell.experiment, split.step
        spec = self._training_spec(cell, split, entry.name, entry.at_step(step.index))
        comparison = f"{experiment.dataset}/{experiment.task}_{cell.scenario.name}_{cell.setting}/{experiment.recipe}"
        directory = f"runs/{comparison}/{entry.title}/seed{cell.seed}/step{step.index}"
        memory = None
        wanted = entry.memory or experiment.memory
        if method.memory_policy != "none" and wanted is not None:
            memory = memory_of(cell, wanted, step.index)
        return self._register(Training(directory, spec, split, previous, memory, method))

    def _register(self, training: Training) -> Training:
        known = self.trainings.setdefault(training.directory, training)
        if known.spec != training.spec:
            raise ConfigError(
                f"two different trainings would be written to {training.directory}: give one of the methods a 'label'"
            )
        return known

    def _evaluation(
        self, cell: Cell, entry: MethodEntry, method: MethodFacts, training: Training, protocol: str
    ) -> Evaluation:
        recipe = cell.recipe
        name = training.spec["method"]["name"]
        values = entry.at_step(training.split.step.index)
        variant = protocol
        if training.shared:  # read once for all methods that decide as the base method does by default
            decided = self._hyper_parameters(entry.name, values, recipe.family, "predict")
            default = self._hyper_parameters(name, {}, recipe.family, "predict")
            if method.decision == training.method.decision and decided == default:
                values = {}
            else:
                name = entry.name
                variant = f"{protocol}_{entry.title}_{short_hash(canonical_json([name, decided]), 6)}"
        spec = {
            "dataset": training.split.dataset,
            "task": training.split.task,
            "step": training.split.step.plain,
            "protocol": asdict(protocols.get(protocol)),
            "method": {
                "name": name,
                "hyper_parameters": self._hyper_parameters(name, values, recipe.family, "predict"),
            },
            "family": recipe.family,
            "network": recipe.network["name"],
            **({"timm": training.spec["recipe"]["timm"]} if "timm" in training.spec["recipe"] else {}),
            "size": recipe.evaluation_size,
            **({"longest": recipe.evaluation_longest} if recipe.evaluation_longest else {}),
            "batch_size": recipe.batch_size,
            "threads": recipe.threads,
            "gallery": self.config.gallery.images,
        }
        evaluation = Evaluation(f"{training.directory}/evaluation/{variant}", spec, training)
        known = self.evaluations.setdefault(evaluation.directory, evaluation)
        if known.spec != evaluation.spec:
            raise ConfigError(
                f"two different evaluations would be written to {evaluation.directory}: use different labels"
            )
        return known

    # -------------------------------------------------------------------------------------------------------- look-ups

    def dataset(self, name: str) -> DatasetEntry:
        """The configured source of a dataset, or of the one that it is a part of."""
        return self.config.datasets[self.parts[name].whole if name in self.parts else name]

    def downloads_lists(self, name: str) -> bool:
        """Whether the published lists of a dataset are to be fetched."""
        lists = self.dataset(name).lists
        return lists is not None and lists.download

    @cached_property
    def memories(self) -> dict[str, MemoryJob]:
        """Memory jobs by file, the earlier steps of each chain included."""
        found: dict[str, MemoryJob] = {}
        for training in self.trainings.values():
            memory = training.memory
            while memory is not None:
                found[memory.file] = memory
                memory = memory.previous
        return found

    @cached_property
    def splits(self) -> dict[str, Split]:
        """Splits by file."""
        trained = [training for training in self.trainings.values() if training.imported is None]
        jobs: Iterable[Training | MemoryJob] = [*trained, *self.memories.values()]
        return {job.split.file: job.split for job in jobs}

    @cached_property
    def comparisons(self) -> tuple[Comparison, ...]:
        """Runs by dataset, task, scenario, setting and recipe."""
        found: dict[str, list[Run]] = {}
        for run in self.runs:
            name = f"{run.dataset}_{run.task}_{run.scenario.name}_{run.setting}_{run.recipe}"
            found.setdefault(name, []).append(run)
        return tuple(Comparison(name, tuple(runs), self._class_names(runs[0])) for name, runs in found.items())

    def _class_names(self, run: Run) -> tuple[str, ...]:
        names = {category.id: category.name for category in self.categories[run.dataset]}
        return tuple(names[category] for category in run.scenario.order)

    @property
    def datasets(self) -> tuple[str, ...]:
        """Names of the datasets that some experiment uses; ``parts`` are made from them."""
        return tuple(name for name in self.categories if name not in self.parts)
