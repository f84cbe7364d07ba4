"""Mistakes in experiments with mask networks, all found before anything is computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import yaml
from bad_case import Case, Section
from bad_workspace import PROJECT, Command, Workspace

Damage = Callable[[Workspace], Command]


def masks(*methods: str | dict[str, Any], network: dict[str, Any] | None = None, **changes: Any) -> Damage:
    """The experiment is a panoptic one on a small mask network.

    Args:
        methods: of the experiment.
        network: changes of the recipe's network; None takes an argument away.
        changes: of the experiment; ``recipe_keys`` of the recipe.
    """
    recipe = yaml.safe_load((PROJECT / "config" / "recipes" / "mask2former-micro.yaml").read_text(encoding="utf-8"))
    recipe["network"] |= network or {}
    recipe["network"] = {key: value for key, value in recipe["network"].items() if value is not None}
    recipe |= changes.pop("recipe_keys", {})

    def do(workspace: Workspace) -> Command:
        content = workspace.config
        content["recipes"]["masks"] = recipe
        plain = {"task": "panoptic", "recipe": "masks", "methods": list(methods) or ["finetuning"], "memory": None}
        content["experiments"][0] |= {**plain, **changes}
        if "protocols" not in changes:
            content["experiments"][0].pop("protocols", None)
        workspace.configure(content)
        return workspace.show_plan()

    return do


SIMCIS: dict[str, Any] = {"name": "mask2former-simcis", "head": None}
ECLIPSE: dict[str, Any] = {"name": "mask2former-eclipse", "head": None}

MASKS = Section(
    "Mask networks",
    (
        Case(
            "A published class order is of another task",
            masks(dataset="panoptic-photos", scenarios=["40-20.cisdq"]),
            "experiments[0].scenarios: scenario '40-20.cisdq': the dataset has no class order 'cisdq' (known: …)",
            "Orders belong to a task: those of CisDQ are of things alone, for instance segmentation of the official COCO.",
            "Set `task: instance`, or choose an order that `docs/protocols.md` lists for the task.",
        ),
        Case(
            "A method for mask networks is given a network that labels pixels",
            masks("comformer", recipe="deeplabv3-micro", task="semantic"),
            "experiments[0].methods[0]: method 'comformer' works on mask networks, not on per-pixel ones (recipe "
            "'deeplabv3-micro')",
            "A method belongs to one family of networks.",
            "Name a recipe whose `family` is `mask`.",
        ),
        Case(
            "A network that labels pixels is to segment objects",
            masks("finetuning", recipe="deeplabv3-micro", task="instance"),
            "experiments[0].methods[0]: 'finetuning' with recipe 'deeplabv3-micro': the method is for semantic segmentation, not "
            "instance",
            "Only mask networks tell objects of one class apart.",
            "Set `task: semantic`, or name a recipe of a mask network.",
        ),
        Case(
            "ECLIPSE is given a network without prompts",
            masks("eclipse"),
            "experiments[0].methods[0]: 'eclipse' with recipe 'masks': the recipe does not suit the method: network.name is "
            "'mask2former', but has to be 'mask2former-eclipse'; recipe '…' does",
            "ECLIPSE trains groups of prompts, which only its own network has.",
            "Use the recipe that the message names, or give the network that name.",
        ),
        Case(
            "BalConpas is given CoMFormer's network",
            masks("balconpas", network={"class_loss": "focal"}),
            "experiments[0].methods[0]: 'balconpas' with recipe 'masks': the recipe does not suit the method: network.class_loss "
            "is 'focal', but has to be 'cross-entropy'; recipe '…' does",
            "BalConpas balances a cross-entropy, which is not defined for the focal loss of CoMFormer's recipes.",
            "Use the recipe that the message names, or set `class_loss: cross-entropy`.",
        ),
        Case(
            "The class head of a mask network cannot grow",
            masks("finetuning", network={"head": "joint"}),
            "experiments[0].methods[0]: 'finetuning' with recipe 'masks': the recipe's network.head is 'joint', which cannot "
            "learn further classes: use 'steps' or 'separate-no-object'",
            "The joint head of Mask2Former is a single layer for the classes that it was built with.",
            "Set `head: steps` (BalConpas) or `head: separate-no-object` (CoMFormer); only `joint` can do with the other.",
        ),
        Case(
            "The class head of a mask network is misspelt",
            masks("finetuning", network={"head": "step"}),
            "recipe 'masks': argument 'head' of network 'mask2former' is 'step': input should be 'joint', 'steps' or "
            "'separate-no-object'",
            "There is no such class head.",
            "Correct the recipe.",
        ),
        Case(
            "The activation of masks is misspelt",
            masks("comformer", network={"mask_activation": "soft-max"}),
            "recipe 'masks': argument 'mask_activation' of network 'mask2former' is 'soft-max': input should be 'sigmoid' or "
            "'softmax'",
            "Masks are independent (`sigmoid`), or share out the pixels as in CoMFormer (`softmax`).",
            "Correct the recipe.",
        ),
        Case(
            "The channels of a mask network do not divide",
            masks(network={"channels": 30}),
            "Mask2Former: pixel_channels (or channels) = 30 must be a multiple of 32",
            "Channels are divided among groups of the normalisation and heads of the attention.",
            "Choose a multiple of the number in the message.",
        ),
        Case(
            "SimCIS is to segment objects",
            masks("simcis", network={**SIMCIS, "classes": 8}, task="instance", scenarios=["2-2"]),
            "experiments[0].methods[0]: 'simcis' with recipe 'masks': the method is for panoptic, semantic segmentation, not "
            "instance",
            "The authors define SimCIS for two tasks.",
            "Choose one of the tasks that the message names, or another method.",
        ),
        Case(
            "SimCIS's network has too few columns",
            masks("simcis", network={**SIMCIS, "classes": 6}),
            "experiments[0].methods[0]: 'simcis' with recipe 'masks': the recipe's network.classes is 6, but 8 classes are "
            "learnt; the class head has a column for each from the start",
            "The class head does not grow: it holds the classes of all steps.",
            "Set `network.classes` to the number of classes of the scenario, or more.",
        ),
        Case(
            "SimCIS's network does not say how many columns it has",
            masks("simcis", network=SIMCIS),
            "recipe 'masks': network 'mask2former-simcis' needs the argument 'classes'",
            "The class head holds the classes of all steps from the start.",
            "Set `network.classes` to the number of classes of the scenario.",
        ),
        Case(
            "SimCIS is to remember nothing",
            masks(
                {"name": "simcis", "hyper_parameters": {"bank_size": 0}},
                network={**SIMCIS, "classes": 8},
            ),
            "experiments[0].methods[0]: hyper-parameter 'bank_size' of mask method 'simcis' is 0: input should be greater than "
            "or equal to 1 (recipe 'masks')",
            "The bank holds at least one query of each class.",
            "Set `virtual_queries: 0` if no remembered query is to take part.",
        ),
        Case(
            "ECLIPSE's decision rule has no δ",
            masks({"name": "eclipse", "hyper_parameters": {"deltas": []}}, network=ECLIPSE),
            "experiments[0].methods[0]: hyper-parameter 'deltas' of mask method 'eclipse' is []: tuple should have at least 1 "
            "item after validation, not 0 (recipe 'masks')",
            "δ is given for each step; the last one holds for all further steps.",
            'Give at least one number; 0 leaves "no object" alone.',
        ),
        Case(
            "A mask network is evaluated on a square crop",
            masks("finetuning", task="semantic", protocols=["ssul-barm"]),
            "experiments[0].protocols: protocol 'ssul-barm' compares at the size 'resize-crop', at which mask networks cannot be "
            "evaluated; use 'segue', or a protocol of the family's own papers",
            "Some code bases of per-pixel methods evaluate the central square of an image.",
            "Choose another protocol; `docs/evaluation.md` explains all.",
        ),
        Case(
            "The long side of evaluated images is bounded, but not the short one",
            masks(recipe_keys={"evaluation_longest": 100}),
            "…config.yaml: recipes.masks: 'evaluation_longest' is for mask networks that see images at an 'evaluation_size'",
            "The bound belongs to the scaling of the short side, which the recipe does not ask for.",
            "Add `evaluation_size`, or remove `evaluation_longest`.",
        ),
        Case(
            "The best mask network of a step is to be kept",
            masks(recipe_keys={"keep_best": {"protocol": "segue"}}),
            "…config.yaml: recipes.masks: keep_best is for per-pixel networks; the released code of mask networks keeps the last",
            "Choosing a network by validation images is a custom of some per-pixel methods.",
            "Remove `keep_best`.",
        ),
        Case(
            "Segments are augmented like label maps",
            masks(recipe_keys={"transform": {"name": "scale-crop", "size": 64}}),
            "recipe 'masks': unknown transform of segments 'scale-crop'; known: …",
            "Each family has augmentations of its own.",
            "Choose one that the message names.",
        ),
    ),
)
