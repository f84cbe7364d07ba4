"""Pseudo targets of CoMFormer's code base, which CoMFormer and PLOP share there."""

from __future__ import annotations

from collections.abc import Sequence

from model.data.loading.mask_batch import MaskTargets
from model.losses.mask_pseudo_targets import all_pseudo_targets, old_predictions
from model.networks.mask2former.outputs import MaskOutputs


def followed_by_pseudo_targets(
    ground_truth: Sequence[MaskTargets], old_outputs: MaskOutputs | None, threshold: float, overlap_threshold: float
) -> tuple[MaskTargets, ...]:
    """The ground truth of each image, then what the old model sees outside it.

    Args:
        ground_truth: of each image.
        old_outputs: of the old model; None at the base step, which has nothing to add.
        threshold: the class of an old query has to be more probable.
        overlap_threshold: of :func:`model.losses.mask_pseudo_targets.all_pseudo_targets`.
    """
    if old_outputs is None:
        return tuple(ground_truth)
    old = old_predictions(
        old_outputs.logits,
        old_outputs.masks,
        old_outputs.image_size,
        old_outputs.mask_activation,
        threshold,
        ranked=False,
    )
    found = all_pseudo_targets(old, [truth.masks for truth in ground_truth], overlap_threshold, counted="won")
    return tuple(truth.followed_by(pseudo) for truth, pseudo in zip(ground_truth, found, strict=True))
