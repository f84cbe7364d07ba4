"""Classification losses of dense labels.

The released codes of the MiB family average over *all* pixels: ignored ones contribute nothing but count in the
denominator. That is the default here; ``mean-valid`` averages over the labelled pixels alone.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from model.data.prepared.labels import IGNORE

Reduction = Literal["mean", "mean-valid", "sum", "none"]


def reduce_pixels(values: Tensor, labels: Tensor, reduction: Reduction) -> Tensor:
    """Reduce a loss map.

    Args:
        values: (B, H, W), zero at ignored pixels.
        labels: (B, H, W), 255 = ignore.
        reduction: ``mean`` over all pixels, ``mean-valid`` over pixels that are not ignored (0 if there is none),
            ``sum``, or ``none`` for the map itself.

    Raises:
        ValueError: for an unknown reduction.
    """
    if reduction == "none":
        return values
    if reduction == "sum":
        return values.sum()
    if reduction == "mean":
        return values.mean()
    if reduction == "mean-valid":
        return values.sum() / (labels != IGNORE).sum().clamp(min=1)
    raise ValueError(f"unknown reduction '{reduction}', expected mean, mean-valid, sum or none")


def one_hot(labels: Tensor, channels: int) -> Tensor:
    """Labels (B, H, W) to boolean targets (B, K, H, W); ignored pixels are False in every channel."""
    return labels.unsqueeze(1) == torch.arange(channels, device=labels.device).view(1, -1, 1, 1)


def cross_entropy(logits: Tensor, labels: Tensor, reduction: Reduction = "mean") -> Tensor:
    r"""Softmax cross-entropy, :math:`-\log p_{i, y_i}`.

    Args:
        logits: (B, K, H, W).
        labels: (B, H, W) channels, 255 = ignore.
        reduction: see :func:`reduce_pixels`.
    """
    values = functional.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="none")
    return reduce_pixels(values, labels, reduction)


def unbiased_log_probabilities(logits: Tensor, old_channels: int) -> Tensor:
    r"""Log-probabilities in which the background stands for everything that the labels of this step hide.

    .. math:: \log q_0 = \log \sum_{k<K_{old}} e^{z_k} - D,\quad \log q_k = z_k - D \;(k ≥ K_{old}),
              \quad D = \log \sum_k e^{z_k}

    Args:
        logits: (B, K, H, W).
        old_channels: K_old, background included, 1 ≤ K_old ≤ K.

    Returns:
        (B, 1 + K - K_old, H, W), background first.

    Raises:
        ValueError: if ``old_channels`` is out of range.

    Source: MiB (2020), eq. 5.
    """
    if not 1 <= old_channels <= logits.shape[1]:
        raise ValueError(f"{old_channels} old channels, but the logits have {logits.shape[1]}")
    log_p = logits.log_softmax(dim=1)
    return torch.cat([log_p[:, :old_channels].logsumexp(dim=1, keepdim=True), log_p[:, old_channels:]], dim=1)


def unbiased_cross_entropy(logits: Tensor, labels: Tensor, old_channels: int, reduction: Reduction = "mean") -> Tensor:
    """Cross-entropy in which a background label only means "none of the new classes".

    Args:
        logits: (B, K, H, W).
        labels: (B, H, W); every label below ``old_channels`` counts as background; 255 = ignore. Left unchanged.
        old_channels: K_old, background included.
        reduction: see :func:`reduce_pixels`.

    Source: MiB (2020), eq. 4-5; released code.
    """
    log_q = unbiased_log_probabilities(logits, old_channels)
    targets = torch.where(labels == IGNORE, labels, (labels - (old_channels - 1)).clamp(min=0))
    values = functional.nll_loss(log_q, targets, ignore_index=IGNORE, reduction="none")
    return reduce_pixels(values, labels, reduction)


def binary_cross_entropy(logits: Tensor, labels: Tensor, reduction: Reduction = "mean") -> Tensor:
    r"""One against all: :math:`\sum_k \mathrm{BCE}(σ(z_{ik}), [y_i = k])`, the background being a class like others.

    Args:
        logits: (B, K, H, W).
        labels: (B, H, W) channels, 255 = ignore.
        reduction: see :func:`reduce_pixels`.

    Source: iCaRL (2017), eq. 1, as carried to pixels by the released MiB code.
    """
    targets = one_hot(labels, logits.shape[1]).to(logits.dtype)
    values = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(dim=1)
    return reduce_pixels(values * (labels != IGNORE), labels, reduction)


def focal_loss(logits: Tensor, labels: Tensor, gamma: float = 2.0, reduction: Reduction = "mean") -> Tensor:
    r"""Softmax focal loss, :math:`-(1 - p_{i, y_i})^γ \log p_{i, y_i}`.

    Args:
        logits: (B, K, H, W).
        labels: (B, H, W) channels, 255 = ignore.
        gamma: 0 is the cross-entropy; larger values leave well classified pixels out.
        reduction: see :func:`reduce_pixels`.

    Source: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, eq. 4; softmax form of the released MiB
    code.
    """
    entropy = functional.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="none")
    values = (1 - torch.exp(-entropy)) ** gamma * entropy
    return reduce_pixels(values, labels, reduction)
