"""Distillation whose background target is decided by the label.

Yang et al., "Label-Guided Knowledge Distillation for Continual Semantic Segmentation on 2D Images and 3D Point Clouds" (LGKD),
ICCV 2023.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from model.data.prepared.labels import IGNORE
from model.losses.precision import at_least_single


def label_guided_targets(old_logits: Tensor, labels: Tensor, channels: int, *, old_scale: float = 1.0) -> Tensor:
    r"""(B, K, h, w) targets τ, each summing to 1: the old softmax q, whose background goes to the labelled new class.

    .. math:: τ_{ik} = q_{ik} \;(1 ≤ k < K_{old}),\quad τ_{i0} = q_{i0}\,[y_i < K_{old}],\quad
              τ_{ik} = q_{i0}\,[y_i = k] \;(k ≥ K_{old})

    Args:
        old_logits: (B, K_old, h, w), background first.
        labels: (B, h, w); where 255, the target is that of the background.
        channels: K.
        old_scale: multiplies the old logits.
    """
    old_channels = old_logits.shape[1]
    old = (old_logits.detach() * old_scale).softmax(dim=1)
    novel = (labels >= old_channels) & (labels != IGNORE)
    targets = functional.pad(old, (0, 0, 0, 0, 0, channels - old_channels))
    place = torch.where(novel, labels, 0).unsqueeze(1)
    targets[:, :1] = 0
    return targets.scatter(1, place, old[:, :1])


def label_guided_distillation(
    logits: Tensor,
    old_logits: Tensor,
    labels: Tensor,
    previous_weight: float = 1.0,
    novel_weight: float = 1.0,
    *,
    old_scale: float = 1.0,
    per_pixel: bool = False,
) -> Tensor:
    r"""Cross-entropy with the label-guided targets τ, :math:`-\frac{1}{M} \sum_i ω_i \sum_k τ_{ik} \log p_{ik}`.

    M is the number of pixels that are not ignored; a weight of 0 does not take pixels out of it. There is no division by the
    number of classes.

    Args:
        logits: (B, K, h, w) of the network in training, background first.
        old_logits: (B, K_old, h, w) of the previous step's network.
        labels: (B, h, w), as annotated, without pseudo-labels; 255 = ignore.
        previous_weight: ω where the label is background or an old class.
        novel_weight: ω where the label is a new class.
        old_scale: multiplies the old logits.
        per_pixel: return the map of weighted terms, 0 where ignored, instead of their mean.

    Returns:
        Scalar, 0 if every pixel is ignored (released: 0/0), or (B, h, w).

    Source: LGKD (2023); released code.
    """
    logits, old_logits = at_least_single(logits), at_least_single(old_logits)
    targets = label_guided_targets(old_logits, labels, logits.shape[1], old_scale=old_scale)
    values = -(targets * logits.log_softmax(dim=1)).sum(dim=1)
    weights = torch.where(labels < old_logits.shape[1], previous_weight, novel_weight).to(values)
    valid = labels != IGNORE
    terms = torch.where(valid, weights * values, 0.0)
    return terms if per_pixel else terms.sum() / valid.sum().clamp(min=1)
