"""Distillation where no new class is labelled, the more so the less sure the old network is.

Klingner, Bär, Donn & Fingscheidt, "Class-Incremental Learning for Semantic Segmentation Re-Using Neither Old Data Nor Old
Labels" (CIL), ITSC 2020.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from model.data.prepared.labels import IGNORE
from model.losses.precision import at_least_single

EPSILON = 1e-8


def entropy_in_bits(probabilities: Tensor) -> Tensor:
    """(B, K, H, W) to (B, H, W)."""
    return -(probabilities * (probabilities + EPSILON).log2()).sum(dim=1)


def entropy_weighted_distillation(
    logits: Tensor,
    old_logits: Tensor,
    labels: Tensor | None = None,
    entropy_weight: float = 1.0,
    *,
    released_product: bool = False,
    weighted_mean: bool = False,
) -> Tensor:
    r"""Cross-entropy with the old opinion, :math:`-\frac{1}{M} \sum_i (1 + λ H_2(p^{old}_i)) \sum_k p^{old}_{ik} \log p_{ik}`.

    :math:`p^{old}` is the softmax of the old logits and of a logit 0 for every new class; H is in bits. The sum goes over the M
    pixels whose label is background or ignored: a labelled pixel has its label.

    Args:
        logits: (B, K, H, W) of the network in training.
        old_logits: (B, K_old, H, W) of the previous step's network, K_old ≤ K.
        labels: (B, H, W), 255 = ignore; None takes every pixel.
        entropy_weight: λ.
        released_product: :math:`+ p^{old} p` in place of :math:`- p^{old} \log p`, as in the code of SDR: minimised, it drives
            the networks apart.
        weighted_mean: divide by the sum of the weights instead of by M.

    Returns:
        Scalar; 0 if no pixel counts.

    Source: CIL (2020); released code of SDR (2021).
    """
    logits, old_logits = at_least_single(logits), at_least_single(old_logits).detach()
    padded = functional.pad(old_logits, (0, 0, 0, 0, 0, logits.shape[1] - old_logits.shape[1]))
    old = padded.softmax(dim=1)
    values = (old * logits.softmax(dim=1)).sum(dim=1)
    if not released_product:
        values = -(old * logits.log_softmax(dim=1)).sum(dim=1)
    weights = 1 + entropy_weight * entropy_in_bits(old)
    if labels is not None:
        counted = (labels == 0) | (labels == IGNORE)
        weights = weights * counted
        number = counted.sum().clamp(min=1)
    else:
        number = weights.new_tensor(weights.numel())
    total = (weights * values).sum()
    return total / (weights.sum().clamp(min=EPSILON) if weighted_mean else number)
