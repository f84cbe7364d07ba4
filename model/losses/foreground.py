"""Classification by binary classifiers of classes alone, without a background channel: DKD and STAR."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from model.data.prepared.labels import IGNORE


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


def soft_foreground_cross_entropy(
    logits: Tensor, labels: Tensor, old_logits: Tensor | None = None, background: bool = False
) -> Tensor:
    """One against all over every channel, mean over all elements; old sigmoids are the targets where there are no labels.

    The targets of a class that occurs in the labels are the labels; those of an old class that does not are its old sigmoids;
    all others are 0. Ignored pixels (255) count as labelled with no class.

    Args:
        logits: (B, K, H, W); channel 0 is the background.
        labels: (B, H, W) channels.
        old_logits: (B, K_old, H, W) of the previous step's network, whose channel 0 is not read; None: labels alone.
        background: whether pixels labelled 0 are positives of channel 0, which has no positives otherwise.

    Source: the plain BCE of the released DKD code, shared by STAR; neither method's own loss needs it.
    """
    targets = torch.zeros_like(logits)
    if old_logits is not None:
        old = old_logits.shape[1]
        targets[:, 1:old] = old_logits.detach().sigmoid()[:, 1:]
    for place in labels.unique().tolist():
        if place != IGNORE and (place > 0 or background):
            targets[:, place] = (labels == place).to(targets)
    return functional.binary_cross_entropy_with_logits(logits, targets)
