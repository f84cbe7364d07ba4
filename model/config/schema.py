"""The typed configuration: the one place that reads YAML.

An *experiment* compares methods: one dataset, task and recipe, some scenarios, settings, methods and seeds. A *recipe* names
a network variant with its optimiser, schedule and augmentation and lives in ``config/recipes/NAME.yaml``. A *machine* (cores,
GPUs, partitions) is described by profiles and never appears here.

Everything is checked before the DAG starts: unknown keys and names, wrong types, impossible combinations. Each problem is
one line that names the key, says what was expected and, for a misspelt name, the nearest known one.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from model.training.spec import OptimiserSpec, ScheduleSpec, check_family

SCHEMA_VERSION = 1
RECIPES = Path("config/recipes")

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]*$")]
"""Names become parts of paths: letters, digits, dot and hyphen, no underscore and no slash."""
Positive = Annotated[int, Field(ge=1)]


class ConfigError(ValueError):
    """A configuration that cannot be run; the message is one line per problem."""


class _Typed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


# ---------------------------------------------------------------------------------------------------------------- recipe


class StepLength(_Typed):
    """How long one step trains: iterations (in all, or for each of its classes) or epochs.

    ``learning_rate`` overrides the optimiser's, ``network`` adds arguments of the network to those of the recipe.
    """

    iterations: Positive | None = None
    iterations_per_class: Positive | None = None
    epochs: Positive | None = None
    learning_rate: Annotated[float, Field(gt=0)] | None = None
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
    """Network variant, optimiser, schedule and augmentation of a whole run."""

    family: Literal["per-pixel", "mask"]
    network: dict[str, Any]
    optimiser: OptimiserSpec
    schedule: ScheduleSpec = ScheduleSpec()
    base: StepLength
    increment: StepLength
    batch_size: Positive
    accumulate: Positive = 1
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    transform: dict[str, Any]
    evaluation_size: Positive | None = None
    void_in_training: Literal["ignore", "background"] = "ignore"
    leak_next_class: bool = False
    threads: Positive = 1

    @model_validator(mode="after")
    def _of_one_family(self) -> Recipe:
        check_family(self.family, self.optimiser, self.void_in_training, self.leak_next_class)
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
        kept = {"family", "schedule", "batch_size", "accumulate", "clip_norm", "precision", "transform"}
        added = {"added_arguments": sorted(length.network)} if length.network else {}
        return {
            **added,
            **self.model_dump(include=kept | {"void_in_training", "leak_next_class", "threads"}),
            "network": {**self.network, **length.network},
            "optimiser": optimiser,
            "iterations": length.iterations_of(classes),
            "epochs": length.epochs,
        }


# ------------------------------------------------------------------------------------------------------------ experiment


class ExplicitScenario(_Typed):
    """A scenario as explicit lists of category ids or class names, one list a step."""

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


class Experiment(_Typed):
    """Runs that are compared: every method in every scenario, setting and seed."""

    dataset: Name
    task: Literal["panoptic", "semantic", "instance"] = "semantic"
    scenarios: Annotated[list[str | ExplicitScenario], Field(min_length=1)]
    settings: Annotated[list[Literal["overlapped", "disjoint", "sequential", "partition"]], Field(min_length=1)] = [
        "overlapped"
    ]
    images_by: Literal["panoptic", "semantic", "instance"] | None = None
    recipe: Name
    methods: Annotated[list[MethodEntry], Field(min_length=1)]
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] = [0]
    protocols: Annotated[list[str], Field(min_length=1)] = ["segue"]
    memory: Memory | None = None
    note: str = ""

    @field_validator("methods", mode="before")
    @classmethod
    def _plain_names(cls, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        return [{"name": entry} if isinstance(entry, str) else entry for entry in value]

    @field_validator("seeds", "settings", "protocols", "scenarios", "methods")
    @classmethod
    def _no_repetition(cls, value: list[Any]) -> list[Any]:
        titles = [v.title if isinstance(v, MethodEntry) else getattr(v, "name", v) for v in value]
        for title in titles:
            if titles.count(title) > 1:
                hint = "; give one of them a 'label'" if isinstance(value[0], MethodEntry) else ""
                raise ValueError(f"'{title}' is listed twice{hint}")
        return value


class ImageLists(_Typed):
    """Where the lists of the setting ``partition`` are, see docs/protocols.md.

    ``folder`` holds them, or ``download`` fetches the published ones; ``files`` names lists of one's own by scenario: a file a
    step, or one matrix for all steps.
    """

    folder: str | None = None
    download: bool = False
    entries: Literal["positions", "names"] = "positions"
    files: dict[str, str | Annotated[list[str], Field(min_length=1)]] = {}

    @model_validator(mode="after")
    def _somewhere(self) -> ImageLists:
        if (self.folder is None) == (not self.download):
            raise ValueError("give either 'folder', where the lists lie, or 'download: true'")
        if self.download and self.files:
            raise ValueError("'download' fetches published lists only; lists of one's own lie in a 'folder'")
        return self


class DatasetEntry(BaseModel):
    """A source of images: ``kind`` names the preparation, the other keys are its options (see docs/add-a-dataset.md)."""

    model_config = ConfigDict(extra="allow", frozen=True)
    kind: str
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
    """A whole configuration file."""

    schema_version: Literal[1]
    results: str = "results"
    datasets: Annotated[dict[Name, DatasetEntry], Field(min_length=1)]
    recipes: dict[Name, Recipe] = {}
    experiments: Annotated[list[Experiment], Field(min_length=1)]
    gallery: Gallery = Gallery()


# ---------------------------------------------------------------------------------------------------------------- reading


def expand(value: Any) -> Any:
    """Fill in ``$NAME`` and ``${NAME}`` from the environment in every string of a nested value.

    An unset variable stays as it is written, so that the message about the missing folder names it.
    """
    if isinstance(value, dict):
        return {key: expand(item) for key, item in value.items()}
    if isinstance(value, list):
        return [expand(item) for item in value]
    return os.path.expandvars(value) if isinstance(value, str) else value


def unknown_name(what: str, name: str, known: Iterable[str]) -> str:
    """The one wording of "there is no such thing", with the nearest known name."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(names) or 'none'}"
    return f"unknown {what} '{name}'; {hint}"


def _key(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        elif re.fullmatch(r"[A-Za-z]+\[.*|function-.*|str|int|constrained-.*|[A-Z][A-Za-z]*", part):
            continue  # the branch of a union that pydantic tried, not a key of the file
        else:
            text += f".{part}" if text else part
    return text or "(top level)"


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> set[str]:
    """Names of the fields where an unknown key was found, found by walking the annotations."""
    current: Any = model
    for part in location[:-1]:
        fields = getattr(current, "model_fields", {})
        if isinstance(part, str) and part in fields:
            current = fields[part].annotation
        for _ in range(4):  # list[X], dict[K, X], X | None, Annotated[X, …]
            arguments = [a for a in getattr(current, "__args__", ()) if a is not type(None)]
            models = [a for a in arguments if hasattr(a, "model_fields") or hasattr(a, "__args__")]
            if not models or hasattr(current, "model_fields"):
                break
            current = models[-1]
    return set(getattr(current, "model_fields", {}))


def _beside(problems: Sequence[Any], location: tuple[int | str, ...]) -> list[Any]:
    """Problems of the same value, whichever branch of a union they were found in."""
    return [problem for problem in problems if problem["loc"][: len(location) - 1] == location[:-1]]


def _explain(error: ValidationError, model: type[BaseModel], source: str) -> str:
    lines = []
    problems = error.errors()
    for problem in problems:
        location = problem["loc"]
        if (
            isinstance(problem["input"], dict)
            and problem["type"] == "string_type"
            and len(_beside(problems, location)) > 1
        ):
            continue  # where text may stand as well, whoever writes keys and values means them
        key = _key(location)
        if problem["type"] == "extra_forbidden":
            text = unknown_name("key", str(location[-1]), _fields_at(model, location))
        elif problem["type"] == "missing":
            text = "is required"
        elif problem["type"] == "value_error":
            text = str(problem["ctx"]["error"])
        elif problem["type"] == "literal_error" and isinstance(problem["input"], str):
            text = unknown_name("value", problem["input"], re.findall(r"'([^']*)'", problem["ctx"]["expected"]))
        elif problem["type"] == "too_short":
            text = "is empty: give at least one entry, or remove the key"
        else:
            text = f"{problem['msg'][0].lower()}{problem['msg'][1:]}, got {problem['input']!r}"
        lines.append(f"{source}: {key}: {text}")
    return "\n".join(dict.fromkeys(lines))


def read_yaml(file: Path) -> dict[str, Any]:
    """A YAML mapping from a file.

    Raises:
        ConfigError: if the file is missing, does not parse or holds no mapping.
    """
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{file}: no such file") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{file}: expected keys and values, found {type(content).__name__}")
    return content


def parse_recipe(content: Mapping[str, Any], source: str) -> Recipe:
    """A validated recipe.

    Raises:
        ConfigError: one line per problem, each naming ``source`` and the key.
    """
    try:
        return Recipe.model_validate(dict(content))
    except ValidationError as error:
        raise ConfigError(_explain(error, Recipe, source)) from None


def parse_config(content: Mapping[str, Any], source: str = "config.yaml", recipes: Path = RECIPES) -> Config:
    """A validated configuration with every recipe that its experiments name.

    Args:
        content: the parsed YAML.
        source: file name for messages.
        recipes: folder of recipe files; recipes written inside the configuration win.

    Raises:
        ConfigError: one line per problem.
    """
    try:
        config = Config.model_validate(dict(content))
    except ValidationError as error:
        raise ConfigError(_explain(error, Config, source)) from None
    known = {file.stem for file in recipes.glob("*.yaml")} | set(config.recipes)
    resolved = dict(config.recipes)
    for index, experiment in enumerate(config.experiments):
        where = f"{source}: experiments[{index}]"
        if experiment.dataset not in config.datasets:
            raise ConfigError(f"{where}.dataset: {unknown_name('dataset', experiment.dataset, config.datasets)}")
        if experiment.recipe not in known:
            raise ConfigError(f"{where}.recipe: {unknown_name('recipe', experiment.recipe, known)}")
        if experiment.recipe not in resolved:
            file = recipes / f"{experiment.recipe}.yaml"
            resolved[experiment.recipe] = parse_recipe(read_yaml(file), str(file))
    return config.model_copy(update={"recipes": resolved})


def load_config(file: Path, recipes: Path = RECIPES) -> Config:
    """Read and validate a configuration file.

    Raises:
        ConfigError: one line per problem.
    """
    return parse_config(read_yaml(file), str(file), recipes)
