"""Focal loss of the queries' classes, each a yes-or-no question.

Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, equation 4; the numbers are those of ECLIPSE (CVPR 2024).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

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
