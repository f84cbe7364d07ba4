"""From a configuration to jobs: which trainings, memories, splits and evaluations a grid of experiments needs.

The workflow's rules only look things up here. Every job is identified by its folder inside the results, and described by a
*spec*: plain data that contains exactly what the job depends on. Two jobs with equal specs are one job, which is how a base
step is shared: 100-50, 100-10 and 100-5, and all methods that do nothing special at step 0, continue from one training.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import cached_property
from typing import Any, Literal

from model.config import (
    Config,
    ConfigError,
    DatasetEntry,
    Experiment,
    ExplicitScenario,
    Memory,
    MethodEntry,
    unknown_name,
)
from model.datasets import sources
from model.datasets.prepared import Category
from model.evaluation import protocols
from model.jobs import Evaluation, Grid, MemoryJob, Run, Split, Training
from model.judges import registry as judges
from model.methods import registry as methods
from model.methods.base import Method
from model.networks import registry as networks
from model.provenance import canonical_json, short_hash
from model.scenario import JOINT, Scenario, ScenarioError, Step
from model.training import loaders

DECISION_HOOKS = ("predict", "semantic", "panoptic", "instances")
"""Hooks that turn outputs into an answer; the last three are those of mask networks."""


def _hyper_parameters(
    name: str, values: Mapping[str, Any], family: methods.Family, stage: Literal["train", "predict"]
) -> dict[str, Any]:
    method = methods.build(name, values, family)
    return {field: getattr(method, field) for field in method.hyper_parameters(stage)}


def _same_decision(one: type[Method], other: type[Method]) -> bool:
    """Whether two methods read the outputs of a network alike."""
    return all(getattr(one, hook, None) is getattr(other, hook, None) for hook in DECISION_HOOKS)


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
        self._scenarios: dict[tuple[str, str, str], Scenario] = {}
        used = {experiment.dataset for experiment in config.experiments}
        for name in sorted(used):
            entry = config.datasets[name]
            try:
                self.categories[name] = tuple(sources.categories(entry.kind, entry.options))
            except (ValueError, OSError) as error:
                raise ConfigError(f"datasets.{name}: {error}") from None
        for name in sorted({experiment.recipe for experiment in config.experiments}):
            self._check_recipe(name)
        for index, experiment in enumerate(config.experiments):
            self._expand(experiment, f"experiments[{index}]")

    # ------------------------------------------------------------------------------------------------------ expansion

    def _expand(self, experiment: Experiment, where: str) -> None:
        for name in experiment.protocols:
            if name not in protocols.known():
                raise ConfigError(f"{where}.protocols: {unknown_name('protocol', name, protocols.known())}")
        for wanted in experiment.scenarios:
            scenario = self._scenario(experiment, wanted, where)
            named = self._scenarios.setdefault((experiment.dataset, experiment.task, scenario.name), scenario)
            if named != scenario:
                raise ConfigError(
                    f"{where}.scenarios: '{scenario.name}' already stands for other classes of '{experiment.dataset}'; "
                    "give it another name"
                )
            for setting in experiment.settings:
                for number, entry in enumerate(experiment.methods):
                    method = self._method(experiment, setting, entry, scenario, f"{where}.methods[{number}]")
                    for seed in experiment.seeds:
                        self._add(experiment, scenario, setting, entry, method, seed, where)
        for name in experiment.protocols:
            family = self.config.recipes[experiment.recipe].family
            try:
                judges.check_protocol(family, experiment.task, protocols.get(name))
            except judges.JudgeError as error:
                raise ConfigError(f"{where}.protocols: {error}") from None

    def _check_recipe(self, name: str) -> None:
        recipe = self.config.recipes[name]
        network = {key: value for key, value in recipe.network.items() if key not in ("name", "weights")}
        transform = dict(recipe.transform)
        try:
            networks.check_arguments(recipe.network["name"], network)
            loaders.build_transform(recipe.family, transform.pop("name"), transform)
        except ValueError as error:
            raise ConfigError(f"recipe '{name}': {error}") from None

    def _scenario(self, experiment: Experiment, wanted: str | ExplicitScenario, where: str) -> Scenario:
        dataset = self.config.datasets[experiment.dataset]
        known = self.categories[experiment.dataset]
        allowed = [c for c in known if c.isthing or experiment.task != "instance"]
        try:
            if isinstance(wanted, str):
                if wanted == JOINT:
                    raise ScenarioError("'joint' is a method, not a scenario: list it under 'methods'")
                orders = {**sources.orders(dataset.kind, dataset.options, experiment.task), **dataset.orders}
                return Scenario.from_name(wanted, [c.id for c in allowed], orders)
            ids = {c.name: c.id for c in allowed} | {c.id: c.id for c in allowed}
            for step in wanted.steps:
                for name in step:
                    if name not in ids:
                        names = [c.name for c in allowed]
                        raise ScenarioError(
                            f"scenario '{wanted.name}': {unknown_name('class', str(name), names)} "
                            f"(dataset '{experiment.dataset}')"
                        )
            return Scenario(wanted.name, tuple(tuple(ids[name] for name in step) for step in wanted.steps))
        except ScenarioError as error:
            raise ConfigError(f"{where}.scenarios: {error}") from None

    def _method(
        self, experiment: Experiment, setting: str, entry: MethodEntry, scenario: Scenario, where: str
    ) -> type[Method]:
        family = self.config.recipes[experiment.recipe].family
        try:
            method = methods.resolve(entry.name, family)
            for values in (entry.hyper_parameters, *map(entry.at_step, entry.steps)):
                methods.build(entry.name, values, family)
        except ValueError as error:
            raise ConfigError(f"{where}: {error} (recipe '{experiment.recipe}')") from None
        if experiment.task not in method.tasks:
            raise ConfigError(
                f"{where}: '{entry.name}' is not defined for the task '{experiment.task}' (it is for {', '.join(method.tasks)})"
            )
        if (setting, experiment.task) in method.unsupported:
            reason = method.unsupported[setting, experiment.task]
            raise ConfigError(f"{where}: '{entry.name}' does not support setting '{setting}': {reason}")
        try:
            networks.check_requirements(self.config.recipes[experiment.recipe].network, method.network_arguments)
        except ValueError as error:
            raise ConfigError(f"{where}: recipe '{experiment.recipe}' does not suit '{entry.name}': {error}") from None
        memory = entry.memory or experiment.memory
        if method.memory_policy != "none" and memory is None:
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

    def _add(
        self,
        experiment: Experiment,
        scenario: Scenario,
        setting: str,
        entry: MethodEntry,
        method: type[Method],
        seed: int,
        where: str,
    ) -> None:
        trainings: list[Training] = []
        if method.all_at_once:
            classes = [c for increment in scenario.increments for c in increment]
            step = Scenario.from_name(JOINT, classes).step(0)
            trainings.append(self._base(experiment, "overlapped", entry, method, step, seed))
        else:
            for index in range(len(scenario)):
                step = scenario.step(index)
                if index == 0:
                    trainings.append(self._base(experiment, setting, entry, method, step, seed))
                else:
                    trainings.append(
                        self._increment(experiment, scenario, setting, entry, method, step, seed, trainings[-1])
                    )
        evaluations = {
            protocol: tuple(self._evaluation(experiment, entry, method, training, protocol) for training in trainings)
            for protocol in experiment.protocols
        }
        run = Run(
            experiment.dataset,
            experiment.task,
            scenario,
            setting,
            experiment.recipe,
            entry.title,
            seed,
            tuple(trainings),
            evaluations,
            method.all_at_once,
        )
        if any(run.key == other.key for other in self.runs):
            raise ConfigError(f"{where}: the run {'/'.join(map(str, run.key))} is configured twice")
        self.runs.append(run)

    def _training_spec(
        self,
        experiment: Experiment,
        setting: str,
        name: str,
        values: Mapping[str, Any],
        step: Step,
        seed: int,
    ) -> dict[str, Any]:
        recipe = self.config.recipes[experiment.recipe]
        return {
            "dataset": experiment.dataset,
            "task": experiment.task,
            "setting": setting,
            "seed": seed,
            "step": asdict(step),
            "method": {"name": name, "hyper_parameters": _hyper_parameters(name, values, recipe.family, "train")},
            "recipe": recipe.resolved(step.index, len(step.current)),
        }

    def _base(
        self, experiment: Experiment, setting: str, entry: MethodEntry, method: type[Method], step: Step, seed: int
    ) -> Training:
        name, values = entry.name, entry.at_step(0)
        # Without past classes there are no labels to keep: the base step of "sequential" is that of "disjoint".
        setting = "disjoint" if setting == "sequential" else setting
        if 0 not in entry.steps and (method.base_method is not None or method.base_fields is not None):
            name = method.base_method or entry.name
            values = {key: values[key] for key in method.base_fields or () if key in values}
        owner = methods.resolve(name, self.config.recipes[experiment.recipe].family)
        spec = self._training_spec(experiment, setting, name, values, step, seed)
        key = short_hash(canonical_json({k: v for k, v in spec.items() if k != "seed"}), 8)
        directory = f"base/{experiment.dataset}/{experiment.recipe}_{len(step.current)}-classes_{key}/seed{seed}"
        split = Split(experiment.dataset, experiment.task, setting, step)
        return self._register(Training(directory, spec, split, None, None, owner))

    def _increment(
        self,
        experiment: Experiment,
        scenario: Scenario,
        setting: str,
        entry: MethodEntry,
        method: type[Method],
        step: Step,
        seed: int,
        previous: Training,
    ) -> Training:
        spec = self._training_spec(experiment, setting, entry.name, entry.at_step(step.index), step, seed)
        grid = f"{experiment.dataset}/{experiment.task}_{scenario.name}_{setting}/{experiment.recipe}"
        directory = f"runs/{grid}/{entry.title}/seed{seed}/step{step.index}"
        memory = None
        wanted = entry.memory or experiment.memory
        if method.memory_policy != "none" and wanted is not None:
            memory = self._memory(experiment, scenario, setting, wanted, seed, step.index)
        split = Split(experiment.dataset, experiment.task, setting, step)
        return self._register(Training(directory, spec, split, previous, memory, method))

    def _memory(
        self, experiment: Experiment, scenario: Scenario, setting: str, wanted: Memory, seed: int, index: int
    ) -> MemoryJob | None:
        if index == 0:
            return None
        return MemoryJob(
            experiment.dataset,
            experiment.task,
            setting,
            scenario.name,
            wanted.selection,
            wanted.size,
            seed,
            scenario.step(index),
            self._memory(experiment, scenario, setting, wanted, seed, index - 1),
            Split(experiment.dataset, experiment.task, setting, scenario.step(index - 1)),
        )

    def _register(self, training: Training) -> Training:
        known = self.trainings.setdefault(training.directory, training)
        if known.spec != training.spec:
            raise ConfigError(
                f"two different trainings would be written to {training.directory}: give one of the methods a 'label'"
            )
        return known

    def _evaluation(
        self, experiment: Experiment, entry: MethodEntry, method: type[Method], training: Training, protocol: str
    ) -> Evaluation:
        recipe = self.config.recipes[experiment.recipe]
        name = training.spec["method"]["name"]
        values = entry.at_step(training.split.step.index)
        reading = protocol
        if training.shared:  # read once for all methods that decide as the base method does by default
            decided = _hyper_parameters(entry.name, values, recipe.family, "predict")
            default = _hyper_parameters(name, {}, recipe.family, "predict")
            if _same_decision(method, training.method) and decided == default:
                values = {}
            else:
                name = entry.name
                reading = f"{protocol}_{entry.title}"
        spec = {
            "dataset": experiment.dataset,
            "task": experiment.task,
            "step": asdict(training.split.step),
            "protocol": asdict(protocols.get(protocol)),
            "method": {"name": name, "hyper_parameters": _hyper_parameters(name, values, recipe.family, "predict")},
            "family": recipe.family,
            "network": recipe.network["name"],
            "size": recipe.evaluation_size,
            "batch_size": recipe.batch_size,
            "threads": recipe.threads,
            "gallery": self.config.gallery.images,
        }
        evaluation = Evaluation(f"{training.directory}/evaluation/{reading}", spec, training)
        known = self.evaluations.setdefault(evaluation.directory, evaluation)
        if known.spec != evaluation.spec:
            raise ConfigError(
                f"two different evaluations would be written to {evaluation.directory}: use different labels"
            )
        return known

    # -------------------------------------------------------------------------------------------------------- look-ups

    def dataset(self, name: str) -> DatasetEntry:
        """The configured source of a dataset."""
        return self.config.datasets[name]

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
        jobs: Iterable[Training | MemoryJob] = [*self.trainings.values(), *self.memories.values()]
        return {job.split.file: job.split for job in jobs}

    @cached_property
    def grids(self) -> tuple[Grid, ...]:
        """Runs by dataset, task, scenario, setting and recipe."""
        found: dict[str, list[Run]] = {}
        for run in self.runs:
            name = f"{run.dataset}_{run.task}_{run.scenario.name}_{run.setting}_{run.recipe}"
            found.setdefault(name, []).append(run)
        return tuple(Grid(name, tuple(runs), self._class_names(runs[0])) for name, runs in found.items())

    def _class_names(self, run: Run) -> tuple[str, ...]:
        names = {category.id: category.name for category in self.categories[run.dataset]}
        return tuple(names[category] for category in run.scenario.order)

    @property
    def datasets(self) -> tuple[str, ...]:
        """Names of the datasets that some experiment uses."""
        return tuple(self.categories)
