"""Classification by binary classifiers of classes alone, without a background channel: DKD and STAR."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def foreground_cross_entropy(logits: Tensor, labels: Tensor, first: int, positive_weight: float = 1.0) -> Tensor:
    """One against all for some classes: mean over all pixels, sum over the classes.

    Every other label, background, ignored pixels (255) and classes outside the range alike, is a negative of all of them.

    Args:
        logits: (B, N, H, W) of the classes ``first`` … ``first + N - 1``.
        labels: (B, H, W).
        first: label of channel 0.
        positive_weight: of the pixels of a class.

    Source: DKD (NeurIPS 2022), "mbce" of the released code.
    """
    classes = torch.arange(first, first + logits.shape[1], device=labels.device).view(1, -1, 1, 1)
    targets = (labels.unsqueeze(1) == classes).to(logits.dtype)
    weight = torch.full((logits.shape[1], 1, 1), positive_weight, dtype=logits.dtype, device=logits.device)
    values = functional.binary_cross_entropy_with_logits(logits, targets, pos_weight=weight, reduction="none")
    return values.mean(dim=(0, 2, 3)).sum()


def negatives(logits: Tensor) -> Tensor:
    """The same for samples that belong to none of the classes: mean over the samples, sum over classes.

    Args:
        logits: (B, N, ...).
    """
    return functional.softplus(logits).mean(dim=(0, *range(2, logits.dim()))).sum()


def decide_foreground(logits: Tensor, threshold: float = 0.0) -> Tensor:
    """(B, N, H, W) logits to labels (B, H, W): the largest one if it exceeds the threshold, else background.

    A threshold of 0 is a sigmoid of 0.5.
    """
    best, place = logits.max(dim=1)
    return torch.where(best > threshold, place + 1, torch.zeros_like(place))
