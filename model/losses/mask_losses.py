"""Losses of mask classification: class of each query, shape of each matched mask.

Cheng et al., Mask2Former (CVPR 2022), equation 3 and section 3.3, as released.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from model.losses.precision import at_least_single


def query_cross_entropy(logits: Tensor, labels: Tensor, no_object_weight: float = 0.1) -> Tensor:
    r"""Cross-entropy over all queries, "no object" counting less.

    .. math:: L = \sum_q w_{y_q} · (-\log p_{q, y_q}) / \sum_q w_{y_q}

    Args:
        logits: (B, Q, K + 1), "no object" last.
        labels: (B, Q) int64, K for queries that match nothing.
        no_object_weight: w of "no object"; classes have 1.

    Returns:
        Scalar.
    """
    logits = at_least_single(logits)
    weights = logits.new_ones(logits.shape[-1])
    weights[-1] = no_object_weight
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), weights)


def mask_cross_entropy(mask_logits: Tensor, mask_targets: Tensor, normaliser: float) -> Tensor:
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


def dice_loss(mask_logits: Tensor, mask_targets: Tensor, normaliser: float) -> Tensor:
    r"""One minus the smoothed Dice overlap, summed over masks and divided by ``normaliser``.

    .. math:: L = \sum_m 1 - (2 \sum_p σ_p t_p + 1) / (\sum_p σ_p + \sum_p t_p + 1)

    Shapes as in :func:`mask_cross_entropy`.
    """
    probabilities = mask_logits.sigmoid()
    overlap = 2 * (probabilities * mask_targets).sum(dim=1)
    areas = probabilities.sum(dim=1) + mask_targets.sum(dim=1)
    return (1 - (overlap + 1) / (areas + 1)).sum() / normaliser
