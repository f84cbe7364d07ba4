"""Pseudo targets of CoMFormer's code base, which CoMFormer and PLOP share there."""

from __future__ import annotations

from collections.abc import Sequence

from model.data.loading.mask_batch import MaskTargets
from model.losses.mask_pseudo_targets import old_prediction, pseudo_targets
from model.networks.mask2former.outputs import MaskOutputs


def followed_by_pseudo_targets(
    ground_truth: Sequence[MaskTargets], old_outputs: MaskOutputs | None, threshold: float, overlap_threshold: float
) -> tuple[MaskTargets, ...]:
    """The ground truth of each image, then what the old model sees outside it.

    Args:
        ground_truth: of each image.
        old_outputs: of the old model; None at the base step, which has nothing to add.
        threshold: the class of an old query has to be more probable.
        overlap_threshold: of :func:`model.losses.mask_pseudo_targets.pseudo_targets`.
    """
    if old_outputs is None:
        return tuple(ground_truth)
    size, activation = old_outputs.image_size, old_outputs.mask_activation
    found = []
    for truth, logits, masks in zip(ground_truth, old_outputs.logits, old_outputs.masks, strict=True):
        old = old_prediction(logits, masks, size, activation, threshold, ranked=False)
        found.append(truth.followed_by(pseudo_targets(old, truth.masks, overlap_threshold, counted="won")))
    return tuple(found)
