"""BARM: whole steps through the method's hooks, one background, pseudo-labels, prototypes. A case is told by its arrays."""

from __future__ import annotations

import re
from functools import cache

import pytest
import torch
from contexts import step_context
from golden import Case, Recording, assert_close, cases, load
from torch import Tensor
from torch.nn import functional

from model.data.loading.pixel_batch import PixelBatch
from model.losses.background_adaptation import class_prototypes
from model.methods.pixel.barm import BARM
from model.networks.deeplabv3.barm_network import BranchOutputs, unified_logits
from model.scenario import Step

GROUP = "g_barm"
TERMS = {
    "bce": "classification",
    "triplet_bg": "triplet",
    "feature_tunnel": "features",
    "group_kd": "groups",
    "bg_ce": "residual",
}
FIELDS = {
    "triplet_bg": "triplet_weight",
    "feature_tunnel": "feature_weight",
    "group_kd": "group_weight",
    "bg_ce": "residual_weight",
}


@cache
def is_step(case: Case) -> bool:
    return "head0" in load(case).arrays


def only(wanted: bool) -> list[object]:
    """Whole steps, or cases of prototypes."""
    found = [p for p in cases(GROUP) if not isinstance(p.values[0], Case) or is_step(p.values[0]) == wanted]
    assert found
    return found


def recorded(recording: Recording, stem: str, suffix: str = "") -> list[Tensor]:
    names = [key for key in recording.arrays if re.fullmatch(rf"{stem}\d+{suffix}", key)]
    return [recording.tensor(f"{stem}{number}{suffix}") for number in range(len(names))]


def outputs_of(heads: list[Tensor], branches: list[Tensor], size: torch.Size, training: bool) -> BranchOutputs:
    """What the network would answer, if its branches saw and said what was recorded."""
    coarse = unified_logits(heads, training)
    logits = functional.interpolate(coarse, size, mode="bilinear", align_corners=False)
    return BranchOutputs(logits, branches[0], branches[0], coarse, heads=tuple(heads), branches=tuple(branches))


def step_of(recording: Recording) -> Step:
    _, *classes = recording.config["classes_per_step"]
    ids = tuple(range(1, sum(classes) + 1))
    return Step(len(classes) - 1, ids[: -classes[-1]], ids[-classes[-1] :])


def method_of(recording: Recording) -> BARM:
    config = recording.config
    weights = {field: float(config["weights"][key]) for key, field in FIELDS.items()}
    return BARM(score_threshold=config["pseudo_thresh"], **weights)


@pytest.mark.parametrize("case", only(True))
def test_one_background(case: Case) -> None:
    recording = load(case)
    heads, old_heads = recorded(recording, "head"), recorded(recording, "head", "_old")
    assert_close(unified_logits(heads, True), recording.arrays["unified_train"], GROUP, "float32", "training")
    assert_close(unified_logits(heads, False), recording.arrays["unified_eval"], GROUP, "float32", "evaluation")
    assert_close(unified_logits(old_heads, False), recording.arrays["unified_old"], GROUP, "float32", "old model")


@pytest.mark.parametrize("case", only(True))
def test_whole_training_step(case: Case) -> None:
    recording = load(case)
    config, method = recording.config, method_of(recording)
    labels = recording.tensor("labels")
    size = labels.shape[1:]
    heads = [head.requires_grad_() for head in recorded(recording, "head")]
    branches = [branch.requires_grad_() for branch in recorded(recording, "ear")]
    outputs = outputs_of(heads, branches, size, config["train_mode_current"])
    with torch.no_grad():
        old = recorded(recording, "head", "_old"), recorded(recording, "ear", "_old")
        old_outputs = outputs_of(*old, size, not config["eval_mode_previous"])
    images = torch.zeros(len(labels), 3, *size)
    batch = PixelBatch(images, labels, ("",) * len(labels), torch.zeros(len(labels), dtype=torch.bool))

    context = step_context(step_of(recording))
    targets = method.targets(context, batch, old_outputs)
    terms = method.losses(context, batch, outputs, old_outputs, targets)
    total = sum(terms.values())
    total.backward()

    assert torch.equal(targets, recording.tensor("pseudo_labels"))
    weights = {**config["weights"], "bce": 1.0}
    assert {f"loss.{name}" for name in (*TERMS, "total")} == {k for k in recording.arrays if k.startswith("loss.")}
    for name, ours in TERMS.items():
        assert_close(terms[ours], weights[name] * recording.arrays[f"loss.{name}"], GROUP, "float32", ours)
    assert_close(total, recording.arrays["loss.total"], GROUP, "float32", "total")
    for kind, found in (("head", heads), ("ear", branches)):
        for number, value in enumerate(found):
            key = f"grad.{kind}{number}"
            gradient = torch.zeros_like(value) if value.grad is None else value.grad
            expected = recording.arrays[key] if key in recording.arrays else torch.zeros_like(value)
            assert_close(gradient, expected, GROUP, "float32", key)


@pytest.mark.parametrize("case", only(False))
def test_prototypes(case: Case) -> None:
    recording = load(case)
    prototypes, classes = class_prototypes(recording.tensor("features"), recording.tensor("labels"))
    assert torch.equal(classes, recording.tensor("categories"))
    assert_close(prototypes, recording.arrays["prototypes"], GROUP, "float32", "prototypes")
