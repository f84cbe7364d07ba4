"""Focal loss of the queries' classes, each a yes-or-no question.

Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, equation 4; the numbers are those of ECLIPSE (CVPR 2024).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from model.losses.matching import columns
from model.losses.precision import at_least_single


def query_focal_loss(
    logits: Tensor, labels: Tensor, alpha: float = 5.0, gamma: float = 1.0, scale: float = 50.0
) -> Tensor:
    r"""Sigmoid focal loss over images, queries and classes, "no object" being a class like any other.

    .. math:: L = s · mean_{b,q,k} \; α · (1 - p_t)^γ · (-\log p_t), \quad
              p_t = σ(z) \text{ if } k = y_{bq} \text{ else } 1 - σ(z)

    Args:
        logits: (B, Q, K + 1), "no object" last.
        labels: (B, Q) int64, K for queries that match nothing.
        alpha: α, of positives and negatives alike.
        gamma: γ.
        scale: s, a constant of the released code.

    Returns:
        Scalar.

    Source: ECLIPSE, released code.
    """
    logits = at_least_single(logits)
    targets = F.one_hot(labels, logits.shape[-1]).to(logits.dtype)
    losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    missing = (logits * (1 - 2 * targets)).sigmoid()  # 1 − p_t, without a difference of nearly equal numbers
    return scale * (alpha * missing.pow(gamma) * losses).mean()


def summed_focal_loss(
    logits: Tensor, labels: Tensor, normaliser: float | Tensor, alpha: float = 0.25, gamma: float = 2.0
) -> Tensor:
    r"""Sigmoid focal loss summed over images, queries and classes, divided by the number of targets.

    .. math:: L = \frac{1}{N} \sum_{b,q,k} α_t (1 - p_t)^γ (-\log p_t), \quad α_t = α \text{ if } k = y_{bq} \text{ else } 1 - α

    Args:
        logits: (B, Q, K); there is no "no object".
        labels: (B, Q) int64, K for queries that match nothing, which answer no to every class.
        normaliser: N.
        alpha: α.
        gamma: γ.

    Returns:
        Scalar.

    Source: SimCIS (CVPR 2025), released code.
    """
    logits = at_least_single(logits)
    targets = F.one_hot(labels, logits.shape[-1] + 1)[..., :-1].to(logits.dtype)
    losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    missing = (logits * (1 - 2 * targets)).sigmoid()
    weights = alpha * targets + (1 - alpha) * (1 - targets)
    return (weights * missing.pow(gamma) * losses).sum() / normaliser


def focal_cost(logits: Tensor, labels: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    r"""What it would cost to answer yes to the target's class instead of no: logits (…, Q, K) and labels (…, N) to
    (…, Q, N).

    .. math:: C = α (1 - p)^γ (-\log(p + ε)) - (1 - α) p^γ (-\log(1 - p + ε)), \quad ε = 10^{-8}

    Source: Deformable DETR (ICLR 2021), released code; SimCIS (CVPR 2025).
    """
    p = logits.sigmoid()
    yes = alpha * (1 - p).pow(gamma) * -(p + 1e-8).log()
    no = (1 - alpha) * p.pow(gamma) * -(1 - p + 1e-8).log()
    return columns(yes - no, labels)
