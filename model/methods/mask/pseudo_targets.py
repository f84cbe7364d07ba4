"""What CoMFormer's code base gives every method with an old model: pseudo targets, and its way of reading masks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from model.data.loading.mask_batch import MaskBatch, MaskTargets
from model.losses.mask_pseudo_targets import old_predictions, pseudo_targets
from model.methods.base import Context, Weight, prediction_field
from model.methods.mask.base import MaskMethod
from model.networks.mask2former.outputs import MaskOutputs


@dataclass(frozen=True)
class PseudoTargetMethod(MaskMethod):
    """Base of CoMFormer and of PLOP on masks.

    Targets are the ground truth, then pseudo targets: queries of the old model whose class is not "no object" and more probable
    than ``pseudo_threshold``, with the pixels that they win outside the ground truth and cover with at least half. They need more
    won pixels than ``pseudo_overlap_threshold`` times the pixels that they cover with at least half.
    """

    pseudo_threshold: Weight = 0.0
    pseudo_overlap_threshold: Weight = 0.5
    object_threshold: float = prediction_field(0.0)
    overlap_threshold: float = prediction_field(0.0)
    semantic_reading: Literal["votes", "regions"] = prediction_field("regions")

    needs_old_model = True

    def targets(self, context: Context, batch: MaskBatch, old_outputs: MaskOutputs | None) -> tuple[MaskTargets, ...]:
        if old_outputs is None:
            return tuple(batch.labels)
        old = old_predictions(
            old_outputs.logits,
            old_outputs.masks,
            old_outputs.image_size,
            old_outputs.mask_activation,
            self.pseudo_threshold,
            ranked=False,
        )
        known = [truth.masks for truth in batch.labels]
        found = pseudo_targets(old, known, self.pseudo_overlap_threshold, counted="won")
        return tuple(truth.followed_by(pseudo) for truth, pseudo in zip(batch.labels, found, strict=True))
