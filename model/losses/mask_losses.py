"""Losses of matched masks, on sampled points.

Cheng et al., Mask2Former (CVPR 2022), equation 3 and section 3.3, as released; for masks that are a softmax over the queries
Cermelli et al., CoMFormer (CVPR 2023), as released.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def mask_cross_entropy(mask_logits: Tensor, mask_targets: Tensor, normaliser: float | Tensor) -> Tensor:
    """Binary cross-entropy, mean over the points of a mask, summed over masks and divided by ``normaliser``.

    Args:
        mask_logits: (N, P).
        mask_targets: (N, P) in [0, 1].
        normaliser: number of target masks.

    Returns:
        Scalar, zero if there is no mask.
    """
    losses = F.binary_cross_entropy_with_logits(mask_logits, mask_targets, reduction="none")
    return losses.mean(dim=1).sum() / normaliser


def assigned_mask_cross_entropy(log_probabilities: Tensor, mask_targets: Tensor, normaliser: float | Tensor) -> Tensor:
    r"""Cross-entropy of the pixels' queries: what a pixel of the mask gives to another query costs.

    .. math:: L = \sum_m mean_p \; t_p · (-\log s_{mp}) \; / \; N

    Args:
        log_probabilities: (N, P) log s of a softmax over the queries.
        mask_targets: (N, P) in [0, 1]; points outside the mask cost nothing.
        normaliser: number of target masks.

    Returns:
        Scalar, zero if there is no mask.

    Source: CoMFormer, released code.
    """
    return -(log_probabilities * mask_targets).mean(dim=1).sum() / normaliser


def dice_loss(probabilities: Tensor, mask_targets: Tensor, normaliser: float | Tensor) -> Tensor:
    r"""One minus the smoothed Dice overlap, summed over masks and divided by ``normaliser``.

    .. math:: L = \sum_m 1 - (2 \sum_p s_p t_p + 1) / (\sum_p s_p + \sum_p t_p + 1)

    Args:
        probabilities: (N, P) s.
        mask_targets: (N, P) in [0, 1].
        normaliser: number of target masks.

    Returns:
        Scalar, zero if there is no mask.
    """
    overlap = 2 * (probabilities * mask_targets).sum(dim=1)
    areas = probabilities.sum(dim=1) + mask_targets.sum(dim=1)
    return (1 - (overlap + 1) / (areas + 1)).sum() / normaliser
