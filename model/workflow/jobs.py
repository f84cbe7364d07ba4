"""The jobs of a plan: the name of each, what it depends on, which code it runs.

A job is identified by its folder or file in the results, and described by a *spec*: plain data that contain exactly
what it depends on besides its input files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from model.common.fingerprints import canonical_json, job_code, short_hash
from model.evaluation.evaluators import registry as evaluators
from model.methods import registry as methods
from model.networks import initial_weights
from model.networks import registry as networks
from model.networks.weights_entry import weights_file
from model.scenario import Scenario, Step
from model.splits.image_lists import ImageList
from model.training import loaders
from model.workflow.catalogue import MethodFacts

TIMM_BACKBONES = "model.networks.backbones.timm"
"""Module that a network with a backbone of timm resolves by name."""


@dataclass(frozen=True)
class Split:
    """Images and visible labels of one step; equal steps of different scenarios are the same split.

    ``presence`` is the task whose annotation decides what an image has, None for ``task`` itself; ``image_list`` is the list of
    the setting ``partition``.
    """

    dataset: str
    task: str
    setting: str
    step: Step
    presence: str | None = None
    image_list: ImageList | None = None

    @property
    def selection(self) -> str:
        """How the images are chosen besides the setting; usually empty."""
        parts = [] if self.presence is None else [f"{self.presence} annotation"]
        return ", ".join(parts if self.image_list is None else [*parts, self.image_list.title])

    @cached_property
    def spec(self) -> dict[str, Any]:
        """What the split depends on besides the class index."""
        spec = {"dataset": self.dataset, "task": self.task, "setting": self.setting, "step": self.step.plain}
        if self.selection:
            spec["selection"] = self.selection
        if self.presence is not None:
            spec["presence"] = self.presence
        if self.image_list is not None:
            spec["image_list"] = self.image_list.identity
        return spec

    @cached_property
    def file(self) -> str:
        """Path in the results folder; ``15+1`` means "one class after fifteen"."""
        key = short_hash(canonical_json(self.spec), 8)
        name = f"{len(self.step.past)}+{len(self.step.current)}_{key}"
        return f"splits/{self.dataset}/{self.task}_{self.setting}/{name}.json"


@dataclass(frozen=True)
class MemoryJob:
    """Exemplars that step ``step.index`` replays, chosen from the steps before it."""

    dataset: str
    task: str
    setting: str
    scenario: str
    selection: str
    size: int
    seed: int
    step: Step
    previous: MemoryJob | None
    split: Split

    @property
    def spec(self) -> dict[str, Any]:
        """What the selection depends on besides the class index, the split and the previous memory."""
        return {
            "dataset": self.dataset,
            "task": self.task,
            "selection": self.selection,
            "size": self.size,
            "seed": self.seed,
            "step": self.step.plain,
        }

    @property
    def file(self) -> str:
        """Path below the results folder."""
        chain = f"{self.scenario}_{self.setting}"
        rule = f"{self.selection}-{self.size}"
        return f"memory/{self.dataset}/{self.task}_{chain}/{rule}/seed{self.seed}/step{self.step.index}.json"


@dataclass(frozen=True)
class Training:
    """One step of one method, or a base step that several runs share."""

    directory: str
    spec: dict[str, Any]
    split: Split
    previous: Training | None
    memory: MemoryJob | None
    method: MethodFacts
    imported: Path | None = None
    """File that stands for the training, where there is one."""

    @property
    def dataset(self) -> str:
        """Name of the dataset in the configuration."""
        return self.split.dataset

    @property
    def shared(self) -> bool:
        """True for base steps, which belong to no single run."""
        return self.previous is None

    @property
    def checkpoint(self) -> str:
        """Path below the results folder."""
        return f"{self.directory}/checkpoint.pt"

    @property
    def threads(self) -> int:
        """Threads that the recipe trains with; more would change sums in the last bit."""
        return int(self.spec["recipe"]["threads"])

    @property
    def weights(self) -> Path | None:
        """File of the initial weights; None for increments, and where the recipe starts from random ones.

        Raises:
            InitialWeightsError: if the entry of the recipe cannot be followed.
        """
        entry = self.spec["recipe"]["network"].get("weights")
        return None if entry is None or not self.shared else weights_file(entry)


@dataclass(frozen=True)
class Evaluation:
    """A checkpoint evaluated under a protocol."""

    directory: str
    spec: dict[str, Any]
    training: Training


def training_code(spec: Mapping[str, Any]) -> dict[str, str]:
    """Fingerprints of what a training runs through: the loop, and what its spec resolves by name."""
    recipe, method = spec["recipe"], spec["method"]["name"]
    if "imported" in spec:
        timm = [TIMM_BACKBONES] if "timm" in recipe else []
        return job_code("model.interop.importing", networks.module_of(recipe["network"]["name"]), *timm)
    network, family = recipe["network"]["name"], recipe["family"]
    modules = [networks.module_of(network), methods.module_of(method, family), loaders.module_of(family)]
    if "weights" in recipe["network"] and spec["step"]["index"] == 0:
        modules += ["model.networks.initial_weights", initial_weights.reader_module(recipe["network"])]
    if spec["step"]["index"] > 0:
        modules.append("model.networks.folding")  # of the old model
    if "timm" in recipe:
        modules.append(TIMM_BACKBONES)
    if recipe.get("keep_best"):
        modules += ["model.evaluation.validation", evaluators.module_of(family, spec["task"])]
    return job_code("model.training.job", *modules)


def evaluation_code(spec: Mapping[str, Any]) -> dict[str, str]:
    """Fingerprints of what an evaluation runs through: its script, and what its spec resolves by name."""
    family = spec["family"]
    modules = [networks.module_of(spec["network"]), methods.module_of(spec["method"]["name"], family)]
    if "timm" in spec:
        modules.append(TIMM_BACKBONES)
    return job_code("evaluate_step.py", *modules, evaluators.module_of(family, spec["task"]))


@dataclass(frozen=True)
class Run:
    """One row of the result table before averaging over seeds: a method applied to a scenario."""

    dataset: str
    task: str
    scenario: Scenario
    setting: str
    recipe: str
    method: str
    seed: int
    trainings: tuple[Training, ...]
    evaluations: Mapping[str, tuple[Evaluation, ...]]
    joint: bool
    released: str | None = None
    """Published method whose released weights are evaluated; the run has a single training, which is an import."""
    released_step: int = 0
    """After which these weights were stored."""

    @property
    def key(self) -> tuple[Any, ...]:
        """What no two runs of a configuration may share."""
        return (self.dataset, self.task, self.scenario.name, self.setting, self.recipe, self.method, self.seed)

    @property
    def known_after(self) -> tuple[tuple[int, ...], ...]:
        """Category ids known after each training, in the learning order of its network."""
        return tuple(training.split.step.seen for training in self.trainings)


@dataclass(frozen=True)
class Comparison:
    """Runs that are compared with each other: the methods and seeds of one figure."""

    name: str
    runs: tuple[Run, ...]
    class_names: tuple[str, ...]

    @property
    def identity(self) -> dict[str, Any]:
        """What selects the comparison's rows in the tables, under the first protocol; ``classes`` (names) and
        ``categories`` (their ids) in learning order."""
        first = self.runs[0]
        return {
            "dataset": first.dataset,
            "task": first.task,
            "scenario": first.scenario.name,
            "setting": first.setting,
            "recipe": first.recipe,
            "protocol": next(iter(first.evaluations)),
            "classes": list(self.class_names),
            "categories": list(first.scenario.order),
        }

    @property
    def first_seed(self) -> tuple[Run, ...]:
        """One run per method, for the galleries."""
        seed = self.runs[0].seed
        return tuple(run for run in self.runs if run.seed == seed)
