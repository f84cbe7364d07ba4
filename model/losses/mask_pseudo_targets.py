"""Targets for past classes, from what the old model sees in a new image.

Chen et al., "Strike a Balance in Continual Panoptic Segmentation" (BalConpas), ECCV 2024, and Cermelli et al., "CoMFormer:
Continual Learning in Semantic and Panoptic Segmentation", CVPR 2023; released code of both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from model.data.loading.mask_batch import MaskTargets
from model.losses.mask_activation import MaskActivation, mask_probabilities
from model.losses.precision import at_least_single


@dataclass(frozen=True)
class OldPrediction:
    """What the old model sees in one image: its queries that are not "no object".

    Attributes:
        labels: (n,) int64.
        scores: (n,) probability of the label.
        masks: (n, H, W) mask probabilities.
    """

    labels: Tensor
    scores: Tensor
    masks: Tensor


def old_prediction(
    logits: Tensor,
    masks: Tensor,
    size: tuple[int, int],
    activation: MaskActivation = "sigmoid",
    threshold: float = 0.0,
    ranked: bool = True,
) -> OldPrediction:
    """Queries of the old model that predict a class.

    Args:
        logits: (Q, K_old + 1) class logits, "no object" last.
        masks: (Q, h, w) mask logits.
        size: (H, W) of the targets, to which mask logits are enlarged.
        activation: of the old model's masks.
        threshold: the probability of the class has to be larger.
        ranked: most certain first (BalConpas); in the order of the queries otherwise (CoMFormer).
    """
    scores, labels = at_least_single(logits).softmax(dim=-1).max(dim=-1)
    kept = ((labels != logits.shape[-1] - 1) & (scores > threshold)).nonzero().squeeze(1)
    if ranked:
        kept = kept[scores[kept].argsort(descending=True, stable=True)]
    return OldPrediction(labels[kept], scores[kept], enlarged_masks(masks, kept, size, activation))


def enlarged_masks(masks: Tensor, kept: Tensor, size: tuple[int, int], activation: MaskActivation) -> Tensor:
    """Mask probabilities (n, H, W) of some queries at the size of the targets.

    Args:
        masks: (Q, h, w) mask logits of all queries.
        kept: (n,) int64, the queries.
        size: (H, W).
        activation: of the masks.
    """
    if len(kept) == 0:
        return at_least_single(masks).new_zeros(0, *size)
    # only what is needed is enlarged: all queries take a gigabyte for a batch of 640×640 images
    needed = masks if activation == "softmax" else masks[kept]
    enlarged = F.interpolate(at_least_single(needed)[None], size=size, mode="bilinear", align_corners=False)[0]
    probabilities = mask_probabilities(enlarged, activation)
    return probabilities[kept] if activation == "softmax" else probabilities


def pseudo_targets(
    old: OldPrediction,
    ground_truth: Tensor | None,
    overlap_threshold: float = 0.8,
    counted: Literal["mask", "won"] = "mask",
) -> MaskTargets:
    """Disjoint masks of past classes that keep most of their area.

    Every pixel belongs to the query with the largest score times mask probability, unless a ground-truth mask covers it. What
    a query owns with a probability of at least 0.5 is its mask. It becomes a target if that is not empty and what counts is
    more than ``overlap_threshold`` of the pixels where its probability is at least 0.5.

    Args:
        old: what the old model sees.
        ground_truth: (N, H, W) bool masks that take precedence; None for exemplars, whose labels are not disjoint from
            the past classes.
        overlap_threshold: smallest share of the area, exclusive.
        counted: ``mask``: the pixels of the mask (BalConpas); ``won``: all pixels that the query owns, whatever their
            probability (CoMFormer), so that the share may exceed 1.

    Returns:
        Targets in the order of ``old``.
    """
    if len(old.labels) == 0:
        return MaskTargets(old.labels, old.masks.bool())
    confident = old.masks >= 0.5
    owner = (old.scores[:, None, None] * old.masks).argmax(dim=0)
    owned = owner == torch.arange(len(old.labels), device=owner.device)[:, None, None]
    if ground_truth is not None:
        owned = owned & ~ground_truth.any(dim=0)
    masks = owned & confident
    kept, won, area = (x.flatten(1).sum(dim=1) for x in (masks, owned, confident))
    accepted = (kept > 0) & ((kept if counted == "mask" else won) > overlap_threshold * area)
    return MaskTargets(old.labels[accepted], masks[accepted])


SHARPNESS = 0.06
"""Temperature of the softmax that sharpens scores, in the release of SimCIS."""


def sharpened(probabilities: Tensor) -> Tensor:
    r"""How much the largest of a query's probabilities stands out: :math:`\max_c softmax(p / 0.06)_c`, (Q, K) to (Q,).

    Source: SimCIS (CVPR 2025), released code.
    """
    return (probabilities / SHARPNESS).softmax(dim=-1).amax(dim=-1)


def certain_prediction(
    logits: Tensor,
    masks: Tensor,
    size: tuple[int, int],
    threshold: float,
    known: int,
    refused: Literal["next", "unknown"] = "next",
    sharpen: bool = True,
) -> OldPrediction:
    """Queries of an old model without "no object" that are sure enough of a class, most certain first.

    Args:
        logits: (Q, K) class logits, each a yes-or-no question.
        masks: (Q, h, w) mask logits.
        size: (H, W) of the targets, to which mask logits are enlarged.
        threshold: the probability of the class has to be larger.
        known: classes that the old model knows.
        refused: ``next``: queries of the class after those, which has the place of "no object" in other networks; those of
            other unknown classes pass (released code). ``unknown``: queries of all unknown classes.
        sharpen: whether scores are sharpened before they compete for pixels (panoptic).

    Source: SimCIS (CVPR 2025), released code.
    """
    probabilities = at_least_single(logits).sigmoid()
    best, labels = probabilities.max(dim=-1)
    possible = labels != known if refused == "next" else labels < known
    kept = (possible & (best > threshold)).nonzero().squeeze(1)
    scores = sharpened(probabilities) if sharpen else best
    kept = kept[scores[kept].argsort(descending=True, stable=True)]
    return OldPrediction(labels[kept], scores[kept], enlarged_masks(masks, kept, size, "sigmoid"))


def united(targets: MaskTargets) -> MaskTargets:
    """One target for each class, in ascending order: the union of its masks."""
    labels, inverse = targets.labels.unique(return_inverse=True)
    masks = (
        torch.stack([targets.masks[inverse == k].any(dim=0) for k in range(len(labels))])
        if len(labels)
        else targets.masks
    )
    return MaskTargets(labels, masks)
