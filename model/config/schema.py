"""The types of a configuration.

An *experiment* compares methods: one dataset, task and recipe, some scenarios, settings, methods and seeds. A *recipe* names
a network variant with its optimiser, schedule and augmentation and lives in ``config/recipes/NAME.yaml``. A *machine* (cores,
GPUs, partitions) is described by profiles and never appears here.

Everything is checked before the DAG starts: unknown keys and names, wrong types, impossible combinations. Each problem is
one line that names the key, says what was expected and, for a misspelt name, the nearest known one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from model.common.environment import expand, not_set
from model.config.messages import NAME
from model.config.sweeps import check_overrides, check_sweep
from model.networks.backbones.names import timm_version
from model.networks.weights_entry import spec_entry
from model.training.spec import KeepBestSpec, OptimiserSpec, PolySpec, ScheduleSpec, check_family

Name = Annotated[str, Field(pattern=NAME)]
Positive = Annotated[int, Field(ge=1)]


class _Typed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


# ---------------------------------------------------------------------------------------------------------------- recipe


class StepLength(_Typed):
    """How long one step trains: iterations (in all, or for each of its classes) or epochs.

    ``learning_rate`` overrides the optimiser's, ``batch_size`` and ``schedule`` the recipe's; ``network`` adds arguments of the
    network to those of the recipe.
    """

    iterations: Positive | None = None
    iterations_per_class: Positive | None = None
    epochs: Positive | None = None
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    batch_size: Positive | None = None
    schedule: ScheduleSpec | None = None
    network: dict[str, Any] = {}

    @model_validator(mode="after")
    def _one_length(self) -> StepLength:
        if [self.iterations, self.iterations_per_class, self.epochs].count(None) != 2:
            raise ValueError("give exactly one of 'iterations', 'iterations_per_class' and 'epochs'")
        return self

    def iterations_of(self, classes: int) -> int | None:
        """Iterations of a step that learns so many classes; None if it is counted in epochs."""
        return self.iterations if self.iterations_per_class is None else self.iterations_per_class * classes


class Recipe(_Typed):
    """Network variant, optimiser, schedule and augmentation of a run."""

    family: Literal["per-pixel", "mask"]
    network: dict[str, Any]
    optimiser: OptimiserSpec
    schedule: ScheduleSpec = PolySpec()
    base: StepLength
    increment: StepLength
    batch_size: Positive
    accumulate: Positive = 1
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    transform: dict[str, Any]
    evaluation_size: Positive | None = None
    evaluation_longest: Positive | None = None
    void_in_training: Literal["ignore", "background"] = "ignore"
    leak_next_class: bool = False
    threads: Positive = 1
    tf32: bool = False
    compiled: bool = False
    keep_best: KeepBestSpec | None = None

    @model_validator(mode="after")
    def _of_one_family(self) -> Recipe:
        check_family(self.family, self.optimiser, self.void_in_training, self.leak_next_class, self.keep_best)
        return self

    @model_validator(mode="after")
    def _longest_of_what(self) -> Recipe:
        if self.evaluation_longest is not None and (self.family != "mask" or self.evaluation_size is None):
            raise ValueError("'evaluation_longest' is for mask networks that see images at an 'evaluation_size'")
        return self

    @model_validator(mode="after")
    def _later_steps_add(self) -> Recipe:
        if self.base.network:
            raise ValueError("'base.network' has no meaning: the base step has the arguments under 'network'")
        if again := sorted({*self.increment.network} & {*self.network, "name", "weights"}):
            raise ValueError(
                f"'increment.network' repeats '{again[0]}': a network keeps the arguments that it was built with"
            )
        return self

    @field_validator("network", "transform")
    @classmethod
    def _named(cls, value: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(value.get("name"), str):
            raise ValueError("needs a 'name'")
        return value

    @property
    def whole_network(self) -> dict[str, Any]:
        """The network with what later steps add to it."""
        return {**self.network, **self.increment.network}

    def resolved(self, step: int, classes: int) -> dict[str, Any]:
        """What a training job depends on, as plain data.

        Args:
            step: index of the step.
            classes: number of classes that it learns.
        """
        length = self.base if step == 0 else self.increment
        optimiser = self.optimiser.model_dump()
        if length.learning_rate is not None:
            optimiser["learning_rate"] = length.learning_rate
        network = {**self.network, **length.network}
        if isinstance(entry := network.get("weights"), Mapping):
            network["weights"] = spec_entry(entry)
        kept = {"family", "accumulate", "clip_norm", "precision", "transform"}
        added: dict[str, Any] = {"added_arguments": sorted(length.network)} if length.network else {}
        if version := timm_version(self.network):
            added["timm"] = version
        added |= {switch: True for switch in ("tf32", "compiled") if getattr(self, switch)}
        if self.keep_best is not None:
            added["keep_best"] = self.keep_best.model_dump()
        return {
            **added,
            **self.model_dump(include=kept | {"void_in_training", "leak_next_class", "threads"}),
            "schedule": (length.schedule or self.schedule).model_dump(),
            "batch_size": length.batch_size or self.batch_size,
            "network": network,
            "optimiser": optimiser,
            "iterations": length.iterations_of(classes),
            "epochs": length.epochs,
        }


# ------------------------------------------------------------------------------------------------------------ experiment


class ExplicitScenario(_Typed):
    """A scenario as explicit lists of category ids or class names, one list per step."""

    name: Name
    steps: Annotated[list[Annotated[list[int | str], Field(min_length=1)]], Field(min_length=1)]


class Memory(_Typed):
    """Which exemplars are replayed, by the methods that replay any."""

    selection: Literal["class-proportional", "class-balanced", "random"]
    size: Positive


class MethodEntry(_Typed):
    """A method with hyper-parameters that differ from its defaults."""

    name: str
    label: Name | None = None
    hyper_parameters: dict[str, Any] = {}
    steps: dict[Annotated[int, Field(ge=0)], dict[str, Any]] = {}
    memory: Memory | None = None

    @property
    def title(self) -> str:
        """The name that paths and tables use."""
        return self.label or self.name

    def at_step(self, step: int) -> dict[str, Any]:
        """Hyper-parameters of one step: those of ``steps`` win over the general ones."""
        return {**self.hyper_parameters, **self.steps.get(step, {})}


class ImportedFile(_Typed):
    """A file in the place of a trained step, see docs/checkpoints.md; ``$NAME`` of environment variables is filled in."""

    file: Annotated[str, Field(min_length=1)]
    format: str
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Released(ImportedFile):
    """Released weights, evaluated as a row of their own beside the published number.

    ``step`` is the last one by default, ``setting`` the experiment's first; ``label`` names the row, by default
    ``method-released``.
    """

    method: str
    scenario: str
    step: Annotated[int, Field(ge=0)] | None = None
    setting: Literal["overlapped", "disjoint", "sequential", "partition"] | None = None
    label: Name | None = None
    hyper_parameters: dict[str, Any] = {}

    @property
    def title(self) -> str:
        """The name that paths and tables use."""
        return self.label or f"{self.method}-released"


class Validation(_Typed):
    """Training images that no step trains on and every evaluation is made on, in the place of the dataset's own."""

    fraction: Annotated[float, Field(gt=0, lt=1)]
    seed: Annotated[int, Field(ge=0)] = 0


class Experiment(_Typed):
    """Runs that are compared: every method in every scenario, setting and seed.

    ``overrides`` changes hyper-parameters of the methods (``method.NAME``) or values of the recipe (``recipe.KEY``) here;
    ``sweep`` runs every combination of several values.
    """

    dataset: Name
    task: Literal["panoptic", "semantic", "instance"] = "semantic"
    scenarios: Annotated[list[str | ExplicitScenario], Field(min_length=1)]
    settings: Annotated[list[Literal["overlapped", "disjoint", "sequential", "partition"]], Field(min_length=1)] = [
        "overlapped"
    ]
    images_by: Literal["panoptic", "semantic", "instance"] | None = None
    recipe: Name
    methods: list[MethodEntry]
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] = [0]
    protocols: Annotated[list[str], Field(min_length=1)] = ["segue"]
    memory: Memory | None = None
    base_checkpoint: ImportedFile | None = None
    released: list[Released] = []
    overrides: dict[str, Any] = {}
    sweep: dict[str, Any] = {}
    validation: Validation | None = None
    note: str = ""

    @model_validator(mode="after")
    def _something_to_run(self) -> Experiment:
        if not (self.methods or self.released):
            raise ValueError("'methods' is empty: list at least one method, or released weights under 'released'")
        if self.sweep and self.released:
            raise ValueError("'released' weights are not trained: list them in an experiment without a 'sweep'")
        if self.validation is not None and (self.released or self.base_checkpoint):
            raise ValueError("'validation' holds images out that released weights and base checkpoints were trained on")
        if self.validation is not None and "partition" in self.settings:
            raise ValueError(
                "'validation' does not go with the setting 'partition', whose lists are of all training images"
            )
        for key in self.sweep.keys() & self.overrides.keys():
            raise ValueError(f"'{key}' is under 'overrides' and under 'sweep'; leave one of them")
        return self

    @field_validator("overrides")
    @classmethod
    def _keys_of_overrides(cls, value: dict[str, Any]) -> dict[str, Any]:
        check_overrides(value)
        return value

    @field_validator(
        "sweep", mode="before", json_schema_input_type=dict[str, Annotated[list[Any], Field(min_length=1)]]
    )
    @classmethod
    def _keys_of_sweep(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            check_sweep(value)
        return value

    @field_validator("methods", mode="before", json_schema_input_type=list[str | MethodEntry])
    @classmethod
    def _plain_names(cls, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        return [{"name": entry} if isinstance(entry, str) else entry for entry in value]

    @field_validator("seeds", "settings", "protocols", "scenarios", "methods", "released")
    @classmethod
    def _no_repetition(cls, value: list[Any]) -> list[Any]:
        titles = [_title(v) for v in value]
        for title in titles:
            if titles.count(title) > 1:
                hint = "; give one of them a 'label'" if isinstance(value[0], MethodEntry | Released) else ""
                raise ValueError(f"'{title}' is listed twice{hint}")
        return value


def _title(entry: Any) -> Any:
    """What must not be listed twice."""
    if isinstance(entry, Released):
        return f"{entry.title} in {entry.scenario}"
    return entry.title if isinstance(entry, MethodEntry) else getattr(entry, "name", entry)


class ImageLists(_Typed):
    """Where the lists of the setting ``partition`` are, see docs/protocols.md.

    ``folder`` holds them, or ``download`` fetches the published ones; ``files`` names the user's own lists by scenario: one file
    per step, or one matrix for all steps.
    """

    folder: str | None = None
    download: bool = False
    entries: Literal["positions", "names"] = "positions"
    files: dict[str, str | Annotated[list[str], Field(min_length=1)]] = {}

    @model_validator(mode="after")
    def _somewhere(self) -> ImageLists:
        if (self.folder is None) == (not self.download):
            raise ValueError("give either 'folder', where the lists are, or 'download: true'")
        if self.download and self.files:
            raise ValueError("'download' fetches published lists only; put your own lists into a 'folder'")
        return self


class DatasetEntry(BaseModel):
    """A source of images: ``kind`` names the preparation, the other keys are its options (see docs/add-a-dataset.md)."""

    model_config = ConfigDict(extra="allow", frozen=True)
    kind: str
    verify: Literal["times", "content"] = "times"
    orders: dict[Annotated[str, Field(pattern="^[a-z]$|^[a-z][a-z0-9-]+$")], list[int]] = {}
    lists: ImageLists | None = None

    @field_validator("orders")
    @classmethod
    def _once_each(cls, value: dict[str, list[int]]) -> dict[str, list[int]]:
        for letter, order in value.items():
            if again := [number for place, number in enumerate(order) if number in order[:place]]:
                raise ValueError(f"order '{letter}' has class {again[0]} twice; an order names every class once")
        return value

    @property
    def options(self) -> dict[str, Any]:
        """The options of the kind, with ``$NAME`` of environment variables filled in."""
        return {key: expand(value) for key, value in (self.model_extra or {}).items()}


class Gallery(_Typed):
    """How many validation images the pictures show, evenly spread over the list."""

    images: Annotated[int, Field(ge=0)] = 4


class Config(_Typed):
    """A configuration file."""

    schema_version: Literal[1]
    results: str = "results"
    datasets: Annotated[dict[Name, DatasetEntry], Field(min_length=1)]
    recipes: dict[Name, Recipe] = {}
    experiments: Annotated[list[Experiment], Field(min_length=1)]
    gallery: Gallery = Gallery()
    ranked_against: dict[Name, str] = {}

    @field_validator("results")
    @classmethod
    def _usable_in_commands(cls, value: str) -> str:
        if problem := not_set(value):
            raise ValueError(problem)
        folder: str = expand(value)
        if any(sign in folder for sign in "{}"):
            raise ValueError(f"'{folder}' has braces, which mean wildcards in Snakemake; name another folder")
        if folder.startswith("-"):
            raise ValueError(f"'{folder}' starts with '-', as options of commands do; name another folder")
        if not folder.strip() or not folder.isprintable():
            raise ValueError(f"{folder!r} is no name of a folder")
        return folder
