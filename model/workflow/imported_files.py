"""What a configuration may say about files that stand for a training; the files themselves are not opened here."""

from __future__ import annotations

from pathlib import Path

from model.common.environment import expand, not_set
from model.common.fingerprints import canonical_json, short_hash
from model.common.names import unknown_name
from model.config.messages import ConfigError
from model.config.schema import Experiment, ImportedFile, Recipe
from model.interop.formats import FORMATS, OWN_FORMATS, known_formats
from model.scenario import Scenario
from model.workflow.catalogue import MethodFacts
from model.workflow.jobs import Split, Training


def check_imported(wanted: ImportedFile, network: str, where: str) -> Path:
    """The file of an entry, after its format was checked.

    Args:
        wanted: the entry.
        network: of the recipe.
        where: key of the entry, for messages.

    Raises:
        ConfigError: for a format that does not exist or that the network is never stored in, or a variable that is not set.
    """
    if wanted.format not in known_formats():
        raise ConfigError(f"{where}.format: {unknown_name('format', wanted.format, known_formats())}")
    if wanted.format not in OWN_FORMATS and network not in FORMATS[wanted.format].networks:
        raise ConfigError(
            f"{where}.format: {FORMATS[wanted.format].project} stores {' or '.join(FORMATS[wanted.format].networks)}, but the "
            f"network of the recipe is '{network}'; choose a recipe of the release"
        )
    if problem := not_set(wanted.file):
        raise ConfigError(f"{where}.file: {problem}")
    file: str = expand(wanted.file)
    return Path(file)


def imported_training(
    wanted: ImportedFile,
    recipe: Recipe,
    scenario: Scenario,
    split: Split,
    method: str,
    owner: MethodFacts,
    where: str,
) -> Training:
    """A file in the place of a training: it depends on classes, network, format and content, and on nothing else.

    Args:
        wanted: the file.
        recipe: of the experiment.
        scenario: that the step belongs to.
        split: of the step that the file stands for.
        method: by which it was made.
        owner: what planning knows about this method.
        where: key of the entry, for messages.

    Raises:
        ConfigError: as :func:`check_imported`.
    """
    step, resolved = split.step, recipe.resolved(split.step.index, len(split.step.current))
    file = check_imported(wanted, recipe.network["name"], where)
    network = {key: value for key, value in resolved["network"].items() if key != "weights"}
    own = {"family": recipe.family, "network": network, "threads": 1, "iterations": 0, "epochs": None}
    per_step = [len(classes) for classes in scenario.increments[: step.index + 1]]
    spec = {
        "dataset": split.dataset,
        "task": split.task,
        "setting": split.setting,
        "seed": 0,
        "step": step.plain,
        "method": {"name": method, "hyper_parameters": {}},
        "recipe": {**own, **({"timm": resolved["timm"]} if "timm" in resolved else {})},
        "imported": {"format": wanted.format, "sha256": wanted.sha256, "classes_per_step": per_step},
    }
    # Two recipes that differ in the size of the evaluation evaluate one file twice.
    size, longest = recipe.evaluation_size, recipe.evaluation_longest
    key = short_hash(canonical_json({**spec, "evaluation_size": size, "longest": longest}), 8)
    title = f"{wanted.format}_{network['name'].rpartition(':')[2]}_{len(step.seen)}-classes_{key}"
    return Training(f"imported/{split.dataset}/{title}/seed0", spec, split, None, None, owner, file)


def check_released(experiment: Experiment, where: str) -> None:
    """Refuse released weights of a scenario or setting that the experiment does not have.

    Raises:
        ConfigError: naming the key.
    """
    scenarios = [wanted if isinstance(wanted, str) else wanted.name for wanted in experiment.scenarios]
    for number, released in enumerate(experiment.released):
        if released.scenario not in scenarios:
            raise ConfigError(
                f"{where}.released[{number}].scenario: {unknown_name('scenario', released.scenario, scenarios)}"
            )
        if released.setting is not None and released.setting not in experiment.settings:
            raise ConfigError(
                f"{where}.released[{number}].setting: the experiment has {', '.join(experiment.settings)}, not {released.setting}"
            )
