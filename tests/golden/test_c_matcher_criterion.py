"""Matching and the three losses of every set of predictions, with the recorded points."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import golden
import numpy as np
import pytest
import torch
from golden import Case, Recording, assert_close, cases, load, unpack_bits
from replay import RecordedDraws
from torch import Tensor

from model.data.loading.mask_batch import MaskTargets
from model.losses.point_sampling import undecided_points
from model.losses.query_classification import query_cross_entropy
from model.losses.set_criterion import SetCriterion

GROUP = "c_matcher_criterion"
LOSSES = {"loss_ce": "classification", "loss_mask": "mask", "loss_dice": "dice"}


@dataclass(frozen=True)
class Stage:
    logits: Tensor
    masks: Tensor


def stage_names(recording: Recording) -> list[str]:
    return [f"aux{index}" for index in range(recording.config["stages"] - 1)] + ["last"]


def stages(recording: Recording, dtype: torch.dtype) -> list[Stage]:
    return [
        Stage(
            recording.tensor(f"{name}.pred_logits", dtype).requires_grad_(),
            recording.tensor(f"{name}.pred_masks", dtype).requires_grad_(),
        )
        for name in stage_names(recording)
    ]


def targets(recording: Recording) -> list[MaskTargets]:
    size = recording.config["gt_size"]
    found = []
    for image, count in enumerate(recording.config["targets_per_image"]):
        masks = unpack_bits(recording.arrays[f"target{image}.masks"], (count, *size))
        found.append(MaskTargets(recording.tensor(f"target{image}.labels"), torch.from_numpy(masks)))
    return found


def criterion(config: dict) -> SetCriterion:
    return SetCriterion(
        points=config["num_points"],
        oversampling=config["oversample_ratio"],
        importance=config["importance_sample_ratio"],
        class_cost=config["cost_class"],
        mask_cost=config["cost_mask"],
        dice_cost=config["cost_dice"],
    )


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("case", cases(GROUP))
def test_matching_losses_and_gradients(case: Case, precision: golden.Precision) -> None:
    recording = load(case)
    dtype = getattr(torch, precision)
    predictions, draws = stages(recording, dtype), RecordedDraws(recording, dtype)
    class_loss = partial(query_cross_entropy, no_object_weight=recording.config["eos_coef"])
    per_layer = criterion(recording.config)(predictions, targets(recording), class_loss, draws)
    assert draws.remaining == []
    for name, losses in zip(stage_names(recording), per_layer, strict=True):
        for image, match in enumerate(losses.matches):
            np.testing.assert_array_equal(match.queries, recording.arrays[f"{name}.match{image}.query"])
            np.testing.assert_array_equal(match.targets, recording.arrays[f"{name}.match{image}.target"])
        ending = "" if name == "last" else "_" + name.removeprefix("aux")
        for recorded, mine in LOSSES.items():
            key = f"loss.{recorded}{ending}" + (".f32" if precision == "float32" else "")
            assert_close(getattr(losses, mine), recording.arrays[key], GROUP, precision, key)
    for recorded, mine, which in (
        ("loss_ce", "classification", "logits"),
        ("loss_mask", "mask", "masks"),
        ("loss_dice", "dice", "masks"),
    ):
        (gradient,) = torch.autograd.grad(
            getattr(per_layer[-1], mine), getattr(predictions[-1], which), retain_graph=True
        )
        key = f"grad.{recorded}.pred_{which}"
        stored = recording.arrays[key].dtype.name  # some gradients of the float64 run were stored in float32
        assert_close(
            gradient, recording.arrays[key], GROUP, "float32" if "float32" in (stored, precision) else "float64", key
        )


@pytest.mark.parametrize("case", cases(GROUP))
def test_points_of_the_mask_losses(case: Case) -> None:
    recording = load(case)
    config = recording.config
    draws = RecordedDraws(recording, torch.float64)
    names = stage_names(recording)
    for name in (names[-1], *names[:-1]):
        masks = recording.tensor(f"{name}.pred_masks", torch.float64)
        for _ in range(config["batch"]):
            draws(1, config["num_points"])  # the matcher's
        matched = [masks[image, recording.tensor(f"{name}.match{image}.query")] for image in range(config["batch"])]
        points = undecided_points(
            torch.cat(matched)[:, None],
            config["num_points"],
            draws,
            config["oversample_ratio"],
            config["importance_sample_ratio"],
        )
        expected = recording.arrays[f"{name}.points"].astype(np.float64)
        for mine, theirs in zip(points.numpy(), expected, strict=True):  # the order within a mask is free
            np.testing.assert_array_equal(np.sort(mine.view("f8,f8"), axis=0), np.sort(theirs.view("f8,f8"), axis=0))
