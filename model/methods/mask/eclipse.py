"""ECLIPSE: prompts for new classes in a frozen network.

Kim, Yu & Hwang, "ECLIPSE: Efficient Continual Learning in Panoptic Segmentation with Visual Prompt Tuning", CVPR 2024.

The base step trains the complete network. Each later step adds a group of N prompts (queries with positions for every decoder
layer), a mask head and a class head, and trains these and the shared head of "no object"; nothing else changes, so there is no
old model, no distillation and no replay. Only the newest prompts run in training, but their classes are compared with those of
all steps, so that they learn to be silent about old ones.

    L = Σ_layers λ_class · Focal + λ_mask · BCE + λ_dice · Dice

    Focal     sigmoid focal loss over classes and "no object", times 50 (:func:`model.losses.query_focal.query_focal_loss`)
    BCE, Dice masks of matched queries, at sampled points
    λ_class   class_weight (2) in the base step, increment_class_weight (10) later; the matching has the weights of the loss
              and, unlike it, compares softmax probabilities (released code)

At test time all groups run. A query of group g answers for the classes C_g of its step alone, and the other classes tell it
when to be silent; logits z of K classes and "no object" ∅:

    u  = min(1, Σ_{c ∉ C_g} σ(z_c))
    z_∅ ← logit(clip(δ_g · u))         if δ_g > 0
    z_∅ ← logit(clip(|δ_g| · σ(z_∅)))  if δ_g < 0 (released code only), and is left alone if δ_g = 0
    z_c ← −10                          for c ∉ C_g

δ is the field ``deltas``, a value for each step; the last one holds for all further steps. The released values differ between
scenarios, see docs/methods.md. The base step alone is not manipulated: there are no other classes yet.

Named switches for what the release does and the paper does not mention:

    ``released_supervision``  increments: losses of the raw prompts and of the last layer only, not of every layer
    ``released_statistics``   increments: batch statistics of the frozen network keep changing (not with ``frozen-bn``)

Verified against: e_eclipse (decoder in training and test mode, logits before and after, criterion with gradients, readings,
initial weights of a step).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from model.data.loading.mask_batch import MaskBatch
from model.losses.query_focal import query_focal_loss
from model.losses.set_criterion import PredictionLosses, SetCriterion
from model.methods.base import Context, Trainable, Weight, prediction_field
from model.methods.mask.base import MaskMethod, parameter_groups
from model.networks.layers import normalisations
from model.networks.mask2former.outputs import MaskOutputs, MaskPrediction
from model.networks.mask2former.prompted_network import PromptedOutputs
from model.scenario import Step

SILENCED = -10.0
"""Logit of a class that a query does not answer for."""


@dataclass(frozen=True)
class Eclipse(MaskMethod):
    """The fields are the hyper-parameters, with the released defaults; δ are those of ADE20K panoptic 100-10."""

    increment_class_weight: Weight = 10.0
    focal_alpha: Weight = 5.0
    focal_gamma: Weight = 1.0
    focal_scale: Weight = 50.0
    released_supervision: bool = True
    released_statistics: bool = True
    deltas: Annotated[tuple[float, ...], Field(min_length=1)] = prediction_field((0.4, 0.5))
    object_threshold: float = prediction_field(0.0)
    overlap_threshold: float = prediction_field(0.0)
    semantic_reading: Literal["votes", "regions"] = prediction_field("regions")

    no_object_weight: ClassVar[float] = 1.0  # type: ignore[misc]  # "no object" is a class like any other: no field

    base_method = None
    base_fields = ("class_weight", "mask_weight", "dice_weight", "focal_alpha", "focal_gamma", "focal_scale")
    network_arguments: ClassVar[Mapping[str, tuple[Any, ...]]] = {"name": ("mask2former-eclipse",)}

    def trainable(self, network: Any, step: Step) -> Trainable:
        if step.index == 0:
            return super().trainable(network, step)
        frozen = () if self.released_statistics else normalisations(network)
        return Trainable(parameter_groups(network.newest), frozen)

    def losses(
        self, context: Context, batch: MaskBatch, outputs: MaskOutputs, old_outputs: MaskOutputs | None, targets: Any
    ) -> dict[str, Tensor]:
        increment = len(context.network.classes_per_step) > 1
        stage = replace(self, class_weight=self.increment_class_weight) if increment else self
        predictions = outputs.predictions
        if increment and self.released_supervision:
            predictions = (predictions[0], predictions[-1])
        return stage.weighted(
            stage.prediction_losses(
                context.network.criterion, predictions, targets, self.point_source(outputs), batch.names
            )
        )

    def prediction_losses(
        self, criterion: SetCriterion, predictions: Any, targets: Any, draw: Any, names: Sequence[str] | None = None
    ) -> list[PredictionLosses]:
        """Unweighted losses of every set of predictions, matched with the weights of the losses."""
        matching = replace(
            criterion, class_cost=self.class_weight, mask_cost=self.mask_weight, dice_cost=self.dice_weight
        )
        focal = partial(query_focal_loss, alpha=self.focal_alpha, gamma=self.focal_gamma, scale=self.focal_scale)
        return matching(predictions, targets, focal, draw, names)

    def predict(self, outputs: MaskOutputs, step: Step) -> MaskPrediction:
        last = outputs.predictions[-1]
        if step.index == 0:
            return last
        assert isinstance(outputs, PromptedOutputs)
        logits = manipulate_logits(last.logits, outputs.group_sizes, outputs.classes_per_step, self.deltas)
        return MaskPrediction(logits, last.masks)

    def probabilities(self, logits: Tensor) -> Tensor:
        return logits.sigmoid()


def manipulate_logits(
    logits: Tensor, group_sizes: Sequence[int], classes_per_step: Sequence[int], deltas: Sequence[float]
) -> Tensor:
    """Let every group answer for its own classes only, see the formulas above.

    Args:
        logits: (B, Q, K + 1), groups one after the other, "no object" last.
        group_sizes: queries of each group; group t belongs to step t.
        classes_per_step: classes of each step.
        deltas: δ of each step; the last one holds for all further steps.

    Returns:
        New logits (B, Q, K + 1).
    """
    answers, first = [], 0
    for index, (group, classes) in enumerate(
        zip(logits.split(list(group_sizes), dim=1), classes_per_step, strict=True)
    ):
        delta = deltas[min(index, len(deltas) - 1)]
        known, no_object = group[..., :-1], group[..., -1:]
        foreign = torch.ones(known.shape[-1], dtype=torch.bool, device=logits.device)
        foreign[first : first + classes] = False
        if delta:
            evidence = (
                known[..., foreign].sigmoid().sum(dim=-1, keepdim=True).clamp(max=1)
                if delta > 0
                else no_object.sigmoid()
            )
            no_object = (abs(delta) * evidence).clamp(0.001, 0.999).logit()
        answers.append(torch.cat([known.masked_fill(foreign, SILENCED), no_object], dim=-1))
        first += classes
    return torch.cat(answers, dim=1)
