"""Losses, whole training steps and classifier initialisation of the released MiB code.

Every recorded value must be claimed by a formula here: a value that nobody compares is a failure.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from contexts import step_context
from golden import Case, Precision, Recording, assert_close, cases_holding, load
from torch import Tensor, nn

from model.data.loading.pixel_batch import PixelBatch
from model.losses.classification import binary_cross_entropy, focal_loss, unbiased_cross_entropy
from model.losses.distillation import (
    knowledge_distillation,
    replaced_target_cross_entropy,
    sigmoid_distillation,
    unbiased_knowledge_distillation,
)
from model.methods.registry import build
from model.networks.deeplabv3.initialisation import initialise_from_background
from model.networks.deeplabv3.outputs import PixelOutputs
from model.scenario import Step

GROUP = "g_mib_losses"
METHODS = {"FT": "finetuning", "LWF": "lwf", "LWF-MC": "lwf-mc", "ILT": "ilt", "MiB": "mib"}
LWF_MC_WEIGHT = 10.0


def stored_precision(array: np.ndarray) -> Precision:
    """Some values of the float64 run went through a float32 accumulator and are stored as such."""
    return "float64" if array.dtype == np.float64 else "float32"


def formulas(recording: Recording, dtype: torch.dtype) -> dict[str, Callable[[Tensor], Tensor]]:
    """Our loss, as a function of the logits, for every recorded name."""
    old_logits = recording.tensor("logits_old", dtype)
    # The recorded code keeps sigmoid targets in float32, also in its float64 run; the loss below is the same otherwise.
    rounded = torch.logit(old_logits.sigmoid().float().to(dtype))
    labels, labels_all, mask = (recording.tensor(name) for name in ("labels", "labels_all", "mask"))
    old = int(recording.config["C_old"])
    table: dict[str, Callable[[Tensor], Tensor]] = {
        "unbiased_ce.mean": lambda z: unbiased_cross_entropy(z, labels, old, "mean-valid"),
        "unbiased_ce.sum": lambda z: unbiased_cross_entropy(z, labels, old, "sum"),
        "unbiased_ce.none": lambda z: unbiased_cross_entropy(z, labels, old, "none"),
        "unbiased_ce_all.mean": lambda z: unbiased_cross_entropy(z, labels_all, old, "mean-valid"),
        "unbiased_kd.masked": lambda z: unbiased_knowledge_distillation(z, old_logits, mask=mask),
        "kd.masked": lambda z: knowledge_distillation(z, old_logits, mask=mask, reduction="sum"),
        "bce_ignore.mean": lambda z: binary_cross_entropy(z, labels_all, "mean-valid"),
        "bce_ignore.sum": lambda z: binary_cross_entropy(z, labels_all, "sum"),
        "bce_ignore.none": lambda z: binary_cross_entropy(z, labels_all, "none"),
        "icarl_disjoint": lambda z: replaced_target_cross_entropy(z, rounded, labels),
        "icarl_disjoint_bkg": lambda z: replaced_target_cross_entropy(z, rounded, labels, hard_background=True),
        "icarl_combined_dist": lambda z: LWF_MC_WEIGHT * sigmoid_distillation(z, rounded),
        "focal": lambda z: focal_loss(z, labels_all),
    }
    for alpha in (1.0, float(recording.config["alpha"])):
        table[f"kd.alpha{alpha}"] = lambda z, a=alpha: knowledge_distillation(z, old_logits, old_scale=a)
        table[f"unbiased_kd.alpha{alpha}"] = lambda z, a=alpha: unbiased_knowledge_distillation(
            z, old_logits, old_scale=a
        )
    return table


@pytest.mark.parametrize("case", cases_holding(GROUP, "labels_all"))
def test_losses_and_gradients_in_double_precision(case: Case) -> None:
    recording = load(case)
    table = formulas(recording, torch.float64)
    names = {name.removesuffix(".value") for name in recording.arrays if name.endswith(".value")}
    assert names and names <= set(table), f"nobody compares {names - set(table)}"
    for name in sorted(names):
        logits = recording.tensor("logits", torch.float64).requires_grad_()
        value = table[name](logits)
        (gradient,) = torch.autograd.grad(value.sum(), logits)
        expected = recording.arrays[f"{name}.value"]
        assert_close(value, expected, GROUP, stored_precision(expected), name)
        assert_close(gradient, recording.arrays[f"{name}.grad.logits"], GROUP, "float64", f"gradient of {name}")


@pytest.mark.parametrize("case", cases_holding(GROUP, "labels_all"))
def test_losses_in_single_precision(case: Case) -> None:
    recording = load(case)
    table = formulas(recording, torch.float32)
    names = {name.removesuffix(".value_f32") for name in recording.arrays if name.endswith(".value_f32")}
    assert names and names <= set(table)
    for name in sorted(names):
        value = table[name](recording.tensor("logits", torch.float32))
        assert_close(value, recording.arrays[f"{name}.value_f32"], GROUP, "float32", name)


def released_hyper_parameters(config: dict[str, Any]) -> dict[str, float]:
    """The recorded run's weights by our names; only those that the method has."""
    method, weights = config["method"], {}
    if method in ("LWF", "ILT", "MiB"):
        weights["distillation_weight"] = config["loss_kd"]
    if method == "LWF-MC":
        weights["distillation_weight"] = config["icarl_importance"]
    if method == "ILT":
        weights["feature_weight"] = config["loss_de"]
    return weights


@pytest.mark.parametrize("case", cases_holding(GROUP, "class_loss"))
def test_whole_training_step(case: Case) -> None:
    recording = load(case)
    name = METHODS[recording.config["method"]]
    method = build(name, released_hyper_parameters(recording.config))
    leaves = {key: recording.tensor(key).requires_grad_() for key in ("logits", "features")}
    outputs = PixelOutputs(leaves["logits"], leaves["features"], leaves["features"])
    old = PixelOutputs(*(recording.tensor(key) for key in ("logits_old", "features_old", "features_old")))
    labels = recording.tensor("labels")
    batch = PixelBatch(
        torch.zeros(len(labels), 3, *labels.shape[1:]), labels, ("",) * len(labels), torch.zeros(len(labels))
    )
    before = labels.clone()

    terms = method.losses(step_context(Step(1, (1,), (2,))), batch, outputs, old, batch.labels)
    sum(terms.values()).backward()

    distillation = sum((value for key, value in terms.items() if key != "classification"), torch.zeros(()))
    assert_close(terms["classification"], recording.arrays["class_loss"], GROUP, "float32", "class loss")
    assert_close(distillation, recording.arrays["reg_loss"], GROUP, "float32", "distillation")
    recorded = {key.removeprefix("grad.") for key in recording.arrays if key.startswith("grad.")}
    for key, leaf in leaves.items():
        assert (leaf.grad is not None) == (key in recorded)
        if leaf.grad is not None:
            assert_close(leaf.grad, recording.arrays[f"grad.{key}"], GROUP, "float32", f"gradient of {key}")
    assert torch.equal(labels, before)


@pytest.mark.parametrize("case", cases_holding(GROUP, "before.cls0.weight"))
def test_background_initialisation(case: Case) -> None:
    recording = load(case)
    steps = range(len(recording.config["classes_per_step"]))
    classifiers = nn.ModuleList()
    for step in steps:
        weight, bias = recording.tensor(f"before.cls{step}.weight"), recording.tensor(f"before.cls{step}.bias")
        classifier = nn.Conv2d(weight.shape[1], weight.shape[0], 1)
        classifier.load_state_dict({"weight": weight, "bias": bias})
        classifiers.append(classifier)
    initialise_from_background(classifiers)
    for step in steps:
        for key, value in classifiers[step].state_dict().items():
            assert_close(value, recording.arrays[f"after.cls{step}.{key}"], GROUP, "float32", f"cls{step}.{key}")


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("lwf", {"distillation_weight": 100}),
        ("lwf-mc", {"distillation_weight": 10}),
        ("ilt", {"distillation_weight": 100, "feature_weight": 100}),
        ("mib", {"distillation_weight": 10}),
    ],
)
def test_released_weights_are_the_defaults(name: str, weights: dict[str, float]) -> None:
    assert build(name) == build(name, weights)
