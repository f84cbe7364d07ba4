"""Targets for past classes, from what the old model sees in a new image.

Chen et al., "Strike a Balance in Continual Panoptic Segmentation" (BalConpas), ECCV 2024; released code.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from model.data.loading.mask_batch import MaskTargets
from model.losses.precision import at_least_single


@dataclass(frozen=True)
class OldPrediction:
    """What the old model sees in one image: its queries that are not "no object", most certain first.

    Attributes:
        labels: (n,) int64.
        scores: (n,) probability of the label.
        masks: (n, H, W) mask probabilities.
    """

    labels: Tensor
    scores: Tensor
    masks: Tensor


def old_prediction(logits: Tensor, masks: Tensor, size: tuple[int, int]) -> OldPrediction:
    """Queries of the old model that name a class; no score is too low.

    Args:
        logits: (Q, K_old + 1) class logits, "no object" last.
        masks: (Q, h, w) mask logits.
        size: (H, W) of the targets, to which mask logits are enlarged.
    """
    scores, labels = at_least_single(logits).softmax(dim=-1).max(dim=-1)
    kept = (labels != logits.shape[-1] - 1).nonzero().squeeze(1)
    kept = kept[scores[kept].argsort(descending=True, stable=True)]
    if len(kept) == 0:
        return OldPrediction(labels[kept], scores[kept], scores.new_zeros(0, *size))
    # only the kept queries are enlarged: all of them take a gigabyte for a batch of 640×640 images
    enlarged = F.interpolate(at_least_single(masks[kept])[None], size=size, mode="bilinear", align_corners=False)[0]
    return OldPrediction(labels[kept], scores[kept], enlarged.sigmoid())


def pseudo_targets(old: OldPrediction, ground_truth: Tensor | None, overlap_threshold: float = 0.8) -> MaskTargets:
    """Disjoint masks of past classes that keep most of their area.

    Every pixel belongs to the query with the largest score times mask probability, if that probability is at least 0.5
    and no ground-truth mask covers the pixel. A query becomes a target if it keeps more than ``overlap_threshold`` of the
    pixels where its probability is at least 0.5.

    Args:
        old: what the old model sees.
        ground_truth: (N, H, W) bool masks that take precedence; None for exemplars, whose labels are not disjoint from
            the past classes.
        overlap_threshold: smallest share of the area, exclusive.

    Returns:
        Targets in the order of ``old``.
    """
    if len(old.labels) == 0:
        return MaskTargets(old.labels, old.masks.bool())
    confident = old.masks >= 0.5
    owner = (old.scores[:, None, None] * old.masks).argmax(dim=0)
    masks = confident & (owner == torch.arange(len(old.labels), device=owner.device)[:, None, None])
    if ground_truth is not None:
        masks = masks & ~ground_truth.any(dim=0)
    kept, area = masks.flatten(1).sum(dim=1), confident.flatten(1).sum(dim=1)
    accepted = (kept > 0) & (kept > overlap_threshold * area)
    return MaskTargets(old.labels[accepted], masks[accepted])
