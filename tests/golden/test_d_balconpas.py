"""BalConpas: pseudo targets, balanced class loss, distillation of queries, and the class heads of the steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import golden
import numpy as np
import pytest
import torch
from contexts import step_context
from golden import Case, Recording, assert_close, cases_holding, load, unpack_bits
from replay import RecordedDraws
from torch import Tensor

from model import scenario
from model.data.loading.mask_batch import MaskBatch, MaskTargets
from model.losses.mask_pseudo_targets import OldPrediction, old_predictions, pseudo_targets
from model.losses.set_criterion import SetCriterion
from model.methods.mask.balconpas import BalConpas, BalConpasTargets, merge_targets
from model.methods.mask.base import strange_images
from model.networks.mask2former.class_heads import StepHeads
from model.networks.mask2former.outputs import MaskOutputs, MaskPrediction
from model.scenario import Step as IncrementalStep

GROUP = "d_balconpas"
LOSSES = {"loss_ce": "classification", "loss_mask": "mask", "loss_dice": "dice"}


def stage_names(recording: Recording) -> list[str]:
    auxiliary = sum(name.startswith("aux") and name.endswith("pred_logits") for name in recording.arrays)
    return [f"aux{index}" for index in range(auxiliary)] + ["last"]


@dataclass(frozen=True)
class Step:
    """Everything that a recorded training step starts from."""

    recording: Recording
    dtype: torch.dtype

    @property
    def predictions(self) -> tuple[MaskPrediction, ...]:
        return tuple(
            MaskPrediction(
                self.recording.tensor(f"{name}.pred_logits", self.dtype).requires_grad_(),
                self.recording.tensor(f"{name}.pred_masks", self.dtype).requires_grad_(),
            )
            for name in stage_names(self.recording)
        )

    def queries(self, which: str) -> tuple[Tensor, ...]:
        return tuple(
            self.recording.tensor(f"{which}{stage}", self.dtype).transpose(0, 1)  # recorded as (Q, B, C)
            for stage in range(len(stage_names(self.recording)))
        )

    @property
    def ground_truth(self) -> list[MaskTargets]:
        found = []
        for image, count in enumerate(self.recording.config["targets_per_image"]):
            size = self.recording.arrays[f"old{image}.masks"].shape[-2:]
            masks = unpack_bits(self.recording.arrays[f"target{image}.masks"], (count, *size))
            found.append(MaskTargets(self.recording.tensor(f"target{image}.labels"), torch.from_numpy(masks)))
        return found

    @property
    def old(self) -> list[OldPrediction]:
        return [
            OldPrediction(
                self.recording.tensor(f"old{image}.labels"),
                self.recording.tensor(f"old{image}.scores", self.dtype),
                self.recording.tensor(f"old{image}.masks", self.dtype),
            )
            for image in range(len(self.ground_truth))
        ]

    @property
    def targets(self) -> BalConpasTargets:
        config = self.recording.config
        replayed = strange_images(self.ground_truth, learnt(config))
        return merge_targets(self.ground_truth, self.old, replayed, config["overlap_threshold"])

    @property
    def criterion(self) -> SetCriterion:
        config = self.recording.config
        return SetCriterion(config["num_points"], config["oversample"], config["importance"], *config["costs"])


def learnt(config: dict[str, Any]) -> scenario.Step:
    """Classes before the step and those of it."""
    old, seen = config["old_classes"], config["old_classes"] + config["new_classes"]
    return scenario.Step(1, tuple(range(old)), tuple(range(old, seen)))


TRAINING_STEPS = cases_holding(GROUP, "loss.loss_med_tokens")
PRECISIONS = pytest.mark.parametrize("precision", ["float32", "float64"])


@pytest.mark.parametrize("case", cases_holding(GROUP, "class_embeds.*"))
def test_class_heads(case: Case) -> None:
    recording = load(case)
    x = recording.tensor("decoder_output")
    base, *increments = recording.config["classes_per_step"]
    heads = StepHeads(x.shape[-1], [base])
    for classes in increments:
        heads.grow(classes)
    heads.load_state_dict({name: recording.tensor(f"class_embeds.{name}") for name in heads.state_dict()})
    assert_close(heads(x), recording.arrays["logits"], GROUP, "float32")


@pytest.mark.parametrize("case", cases_holding(GROUP, "scores"))
def test_old_predictions(case: Case) -> None:
    recording = load(case)
    masks = recording.tensor("pred_masks")
    (old,) = old_predictions(recording.tensor("pred_logits")[None], masks[None], tuple(masks.shape[-2:]))
    np.testing.assert_array_equal(old.labels, recording.arrays["labels"])
    assert_close(old.scores, recording.arrays["scores"], GROUP, "float32")
    assert_close(old.masks, recording.arrays["masks"], GROUP, "float32")


@pytest.mark.parametrize("case", TRAINING_STEPS)
def test_pseudo_targets(case: Case) -> None:
    recording = load(case)
    step = Step(recording, torch.float32)
    replayed = strange_images(step.ground_truth, learnt(recording.config))
    assert replayed.tolist() == recording.config["memory_images"]
    known = [None if replayed[image] else truth.masks for image, truth in enumerate(step.ground_truth)]
    pseudo = pseudo_targets(step.old, known, recording.config["overlap_threshold"])
    for image, found in enumerate(pseudo):
        np.testing.assert_array_equal(found.labels, recording.arrays[f"pseudo{image}.labels"])
        masks = unpack_bits(recording.arrays[f"pseudo{image}.masks"], found.masks.shape)
        np.testing.assert_array_equal(found.masks, masks)


@PRECISIONS
@pytest.mark.parametrize("case", TRAINING_STEPS)
def test_losses_on_merged_targets(case: Case, precision: golden.Precision) -> None:
    recording = load(case)
    step = Step(recording, getattr(torch, precision))
    method = BalConpas(no_object_weight=recording.config["eos_coef"])
    predictions, targets = step.predictions, step.targets
    queries = tuple(q.clone().requires_grad_() for q in step.queries("tokens"))
    draws = RecordedDraws(recording, step.dtype)
    per_layer = method.prediction_losses(step.criterion, predictions, targets, draws)
    distilled = method.distillation(queries, step.queries("tokens_old"), targets, per_layer[-1].matches)
    assert draws.remaining == []
    for name, losses, token_loss in zip(stage_names(recording), per_layer, distilled, strict=True):
        for image, match in enumerate(losses.matches):
            np.testing.assert_array_equal(match.queries, recording.arrays[f"{name}.match{image}.query"])
            np.testing.assert_array_equal(match.targets, recording.arrays[f"{name}.match{image}.target"])
        ending = ("" if name == "last" else "_" + name.removeprefix("aux")) + (".f32" if precision == "float32" else "")
        for recorded, mine in LOSSES.items():
            key = f"loss.{recorded}{ending}"
            assert_close(getattr(losses, mine), recording.arrays[key], GROUP, precision, key)
        key = f"loss.loss_med_tokens{ending}"
        assert_close(token_loss, recording.arrays[key], GROUP, precision, key)
    gradients = {
        "loss_ce.pred_logits": torch.autograd.grad(per_layer[-1].classification, predictions[-1].logits)[0],
        "loss_mask.pred_masks": torch.autograd.grad(per_layer[-1].mask, predictions[-1].masks, retain_graph=True)[0],
        "loss_dice.pred_masks": torch.autograd.grad(per_layer[-1].dice, predictions[-1].masks)[0],
        "loss_med_tokens.tokens_last": torch.autograd.grad(distilled[-1], queries[-1])[0].transpose(0, 1),
    }
    for key, gradient in gradients.items():  # stored in single precision
        assert_close(gradient, recording.arrays[f"grad.{key}"], GROUP, "float32", key)


@pytest.mark.parametrize("case", TRAINING_STEPS)
def test_losses_without_old_model(case: Case) -> None:
    recording = load(case)
    step = Step(recording, torch.float64)
    replayed = strange_images(step.ground_truth, learnt(recording.config))
    targets = merge_targets(step.ground_truth, None, replayed, recording.config["overlap_threshold"])
    draws = RecordedDraws(recording, step.dtype, "plain.")
    method = BalConpas(no_object_weight=recording.config["eos_coef"])
    per_layer = method.prediction_losses(step.criterion, step.predictions, targets, draws)
    for name, losses in zip(stage_names(recording), per_layer, strict=True):
        ending = "" if name == "last" else "_" + name.removeprefix("aux")
        for recorded, mine in LOSSES.items():
            key = f"plain.loss.{recorded}{ending}"
            assert_close(getattr(losses, mine), recording.arrays[key], GROUP, "float64", key)


@pytest.mark.parametrize("case", TRAINING_STEPS)
def test_the_hook_returns_the_weighted_sums(case: Case) -> None:
    """The recorded losses, summed over the stages with the published weights, are what the training loop minimises."""
    recording = load(case)
    step = Step(recording, torch.float64)
    draws = RecordedDraws(recording, step.dtype)

    class Recorded(BalConpas):
        def point_source(self, outputs: MaskOutputs) -> RecordedDraws:
            return draws

    outputs = MaskOutputs(step.predictions, step.queries("tokens"), torch.empty(0), {}, (0, 0), "sigmoid")
    old_outputs = MaskOutputs(step.predictions, step.queries("tokens_old"), torch.empty(0), {}, (0, 0), "sigmoid")
    network = torch.nn.Module()
    network.criterion = step.criterion
    names = tuple(f"image{index}" for index in range(len(step.ground_truth)))
    batch = MaskBatch(torch.empty(0), step.ground_truth, (), names, torch.zeros(len(names), dtype=torch.bool))
    method = Recorded(no_object_weight=recording.config["eos_coef"])
    terms = method.losses(
        step_context(IncrementalStep(1, (1,), (2,)), network), batch, outputs, old_outputs, step.targets
    )
    endings = ["" if name == "last" else "_" + name.removeprefix("aux") for name in stage_names(recording)]
    for term, key, weight in (
        ("classification", "loss_ce", 2.0),
        ("mask", "loss_mask", 5.0),
        ("dice", "loss_dice", 5.0),
        ("query_distillation", "loss_med_tokens", 5.0),
    ):
        expected = weight * sum(float(recording.arrays[f"loss.{key}{ending}"]) for ending in endings)
        assert_close(terms[term], expected, GROUP, "float64", term)
    assert terms.keys() == {"classification", "mask", "dice", "query_distillation"}
