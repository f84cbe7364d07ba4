"""Pseudo-labels of the pixels that the previous step's network gives a high score."""

from __future__ import annotations

import torch
from torch import Tensor


def score_pseudo_labels(labels: Tensor, old_scores: Tensor, first_class: int, threshold: float) -> Tensor:
    """The old network's class wherever no class is labelled and its score is high enough.

    Args:
        labels: (B, H, W) channels; those below ``first_class`` are no class. Left unchanged.
        old_scores: (B, K_old, H, W), sigmoids (or softmax) of all channels.
        first_class: channel of the first class, behind background and the like.
        threshold: smallest score; the largest of *all* channels has to be a class's.

    Source: SSUL (2021), eq. 3; released code. BARM does the same.
    """
    score, predicted = old_scores.max(dim=1)
    accepted = (labels < first_class) & (predicted >= first_class) & (score >= threshold)
    return torch.where(accepted, predicted, labels)
