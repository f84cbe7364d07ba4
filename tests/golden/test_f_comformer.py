"""CoMFormer: class losses and distillation of queries, pseudo targets, criterion on masks by softmax, pooled distillation."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import golden
import numpy as np
import pytest
import torch
from golden import Case, Recording, assert_close, cases_holding, load, unpack_bits
from replay import RecordedDraws
from torch import Tensor

from model.data.loading.mask_batch import MaskTargets
from model.losses.class_distillation import (
    class_distillation,
    focal_class_distillation,
    mask_distillation,
    squared_class_distillation,
)
from model.losses.mask_activation import MaskActivation
from model.losses.mask_pseudo_targets import old_predictions, pseudo_targets
from model.losses.pooled_distillation import local_pod
from model.losses.query_classification import QueryClassification, query_cross_entropy, softmax_focal_loss
from model.losses.softmax_criterion import CRITERIA
from model.networks.mask2former.outputs import MaskPrediction

GROUP = "f_comformer"
PRECISIONS = pytest.mark.parametrize("precision", ["float32", "float64"])
FOCAL_OF_THE_CLASS = (10.0, 2.0)
"""α and γ that the recordings have where they name none; configurations say 5 and 1."""
USE_NEW = {"True": "ignored", "False": "removed"}


def activation_of(recording: Recording) -> MaskActivation:
    return "softmax" if recording.config["softmask"] else "sigmoid"


def targets_of(recording: Recording, kind: str = "target") -> list[MaskTargets]:
    found = []
    while f"{kind}{len(found)}.labels" in recording.arrays:
        name = f"{kind}{len(found)}"
        shape = recording.document["arrays"][f"{name}.masks"]["meaning"].rpartition("original shape ")[2]
        masks = unpack_bits(recording.arrays[f"{name}.masks"], [int(side) for side in shape.strip("[]").split(",")])
        found.append(MaskTargets(recording.tensor(f"{name}.labels"), torch.from_numpy(masks)))
    return found


def query_losses(recording: Recording) -> dict[str, Callable[[Tensor], Tensor]]:
    """What every value of the recording is computed by, from logits (B, Q, K + 1)."""
    old_classes, labels = recording.config["old_classes"], recording.tensor("targets")
    old = recording.tensor("logits_old").mT
    alpha, gamma = FOCAL_OF_THE_CLASS
    losses: dict[str, Callable[[Tensor], Tensor]] = {
        "unbiased_ce": lambda z: query_cross_entropy(z, labels, old_classes=old_classes),
        "l2_kd": lambda z: squared_class_distillation(z, old),
    }
    for released, reduction in (("mean", "mean"), ("wmean", "weighted-mean")):
        for name, hidden in (("focal_ce", 0), ("focal_unbiased_ce", old_classes)):
            losses[f"{name}.{released}"] = partial(
                lambda z, hidden, reduction: softmax_focal_loss(z, labels, alpha, gamma, hidden, reduction),
                hidden=hidden,
                reduction=reduction,
            )
    kinds = {"unbiased_kd": "no-object"} | {f"kd.use_new_{flag}": kind for flag, kind in USE_NEW.items()}
    for name in (key.removesuffix(".value") for key in recording.arrays if ".temp" in key and key.endswith(".value")):
        released, _, rest = name.partition(".reweight_")
        reweighted, _, temperature = rest.partition(".temp")
        losses[name] = partial(
            lambda z, kind, reweighted, temperature: class_distillation(z, old, kind, reweighted, temperature),
            kind=kinds[released],
            reweighted=reweighted == "True",
            temperature=float(temperature),
        )
    for flag, kind in USE_NEW.items():
        losses[f"focal_kd.use_new_{flag}"] = partial(lambda z, kind: focal_class_distillation(z, old, kind), kind=kind)
    return losses


@pytest.mark.parametrize("case", cases_holding(GROUP, "unbiased_ce.value"))
def test_losses_of_queries(case: Case) -> None:
    recording = load(case)
    losses = query_losses(recording)
    assert {f"{name}.value" for name in losses} == {name for name in recording.arrays if name.endswith(".value")}
    for name, loss in losses.items():
        logits = recording.tensor("logits").requires_grad_()  # B, K + 1, Q
        value = loss(logits.mT)
        assert_close(value, recording.arrays[f"{name}.value"], GROUP, "float64", name)
        (gradient,) = torch.autograd.grad(value, logits)
        key = f"{name}.grad.logits"
        assert_close(gradient, recording.arrays[key], GROUP, "float64", key)


@pytest.mark.parametrize("case", cases_holding(GROUP, "score_threshold", "old_masks"))
def test_pseudo_targets(case: Case) -> None:
    recording = load(case)
    size = tuple(recording.config["image_size"])
    expected = targets_of(recording, "result")
    logits, masks = recording.tensor("old_logits"), recording.tensor("old_masks")
    threshold = recording.config["score_threshold"]
    old = old_predictions(logits, masks, size, activation_of(recording), threshold, ranked=False)
    truths = targets_of(recording)
    pseudo = pseudo_targets(old, [truth.masks for truth in truths], 0.5, counted="won")
    for image, truth in enumerate(truths):
        found = truth.followed_by(pseudo[image])
        np.testing.assert_array_equal(found.labels, expected[image].labels)
        np.testing.assert_array_equal(found.masks, expected[image].masks)


def stage_names(recording: Recording) -> list[str]:
    auxiliary = sum(name.startswith("aux") and name.endswith("pred_logits") for name in recording.arrays)
    return [*(f"aux{index}" for index in range(auxiliary)), "last"]


@PRECISIONS
@pytest.mark.parametrize("case", cases_holding(GROUP, "loss.loss_kd"))
def test_criterion(case: Case, precision: golden.Precision) -> None:
    recording = load(case)
    config, dtype, names = recording.config, getattr(torch, precision), stage_names(recording)
    activation = activation_of(recording)
    stages = [
        MaskPrediction(
            *(recording.tensor(f"{name}.pred_{what}", dtype).requires_grad_() for what in ("logits", "masks"))
        )
        for name in names
    ]
    alpha, gamma = config.get("focal_alpha", FOCAL_OF_THE_CLASS[0]), config.get("focal_gamma", FOCAL_OF_THE_CLASS[1])
    criterion = CRITERIA[activation](
        config["num_points"],
        config["oversample"],
        config["importance"],
        *config["costs"],
        QueryClassification("focal" if config["focal"] else "cross-entropy", alpha, gamma),
    )
    hidden = config["old_classes"] if config["uce"] else 0
    class_loss = partial(criterion.classification, no_object_weight=config["eos_coef"], old_classes=hidden)
    draws = RecordedDraws(recording, dtype)
    per_layer = criterion(stages, targets_of(recording), class_loss, draws)
    assert draws.remaining == []
    for name, stage, losses in zip(names, stages, per_layer, strict=True):
        for image, match in enumerate(losses.matches):
            np.testing.assert_array_equal(match.queries, recording.arrays[f"{name}.match{image}.query"])
            np.testing.assert_array_equal(match.targets, recording.arrays[f"{name}.match{image}.target"])
        mine = {"ce": losses.classification, "mask": losses.mask, "dice": losses.dice}
        mine |= distillation(recording, name, stage)
        ending = "" if name == "last" else "_" + name.removeprefix("aux")
        for loss, value in mine.items():
            key = f"loss.loss_{loss}{ending}"
            if key in recording.arrays:
                stored = key + (".f32" if precision == "float32" else "")
                assert_close(value, recording.arrays[stored], GROUP, precision, stored)
        if name == "last":
            assert {f"loss.loss_{loss}" for loss in mine} >= {
                key for key in recording.arrays if key.startswith("loss.") and not key[-1].isdigit()
            }
            for loss, value in mine.items():
                what = "logits" if loss in ("ce", "kd") else "masks"
                key = f"grad.loss_{loss}.pred_{what}"
                if key in recording.arrays:  # stored in single precision
                    (gradient,) = torch.autograd.grad(value, getattr(stage, what), retain_graph=True)
                    assert_close(gradient, recording.arrays[key], GROUP, "float32", key)


def distillation(recording: Recording, name: str, stage: MaskPrediction) -> dict[str, Tensor]:
    """The terms that the switches of the recording ask for."""
    config = recording.config
    old_logits, old_masks = (recording.tensor(f"{name}.old_{what}", stage.logits.dtype) for what in ("logits", "masks"))
    if config["l2"]:
        classes = squared_class_distillation(stage.logits, old_logits)
    else:
        kind = "no-object" if config["ukd"] else "removed"
        classes = class_distillation(stage.logits, old_logits, kind, config["kd_reweight"])
    return {"kd": classes, "mask_kd": mask_distillation(stage.masks, old_masks, activation_of(recording))}


@pytest.mark.parametrize("case", cases_holding(GROUP, "feature0"))
def test_pooled_distillation(case: Case) -> None:
    recording = load(case)
    count = sum(name.startswith("feature") and name.endswith("_old") for name in recording.arrays)
    features = [recording.tensor(f"feature{index}").requires_grad_() for index in range(count)]
    old = [recording.tensor(f"feature{index}_old") for index in range(count)]
    value = sum(local_pod(x, y, squared=False) for x, y in zip(features, old, strict=True)) / count
    assert_close(value, recording.arrays["value"], GROUP, "float64")
    for index, gradient in enumerate(torch.autograd.grad(value, features)):
        assert_close(gradient, recording.arrays[f"grad.feature{index}"], GROUP, "float64", f"feature {index}")
