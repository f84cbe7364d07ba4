"""Pseudo-labels of the pixels that the previous step's network is sure about, by the entropy of its prediction.

Douillard et al., "PLOP: Learning without Forgetting for Continual Semantic Segmentation", CVPR 2021.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from model.data.prepared.labels import IGNORE

EPSILON = 1e-8
BINS = 100


def mean_entropy(logits: Tensor) -> Tensor:
    r"""The released measure :math:`-\frac{1}{K \log K} \sum_k p_k \log p_k`, at most 1/K: (B, K, H, W) to (B, H, W).

    Its name in the paper is the normalised entropy; the released code takes the mean over classes where the sum is meant.
    """
    p = logits.softmax(dim=1)
    return (-(p * (p + EPSILON).log())).mean(dim=1) / math.log(logits.shape[1] + EPSILON)


def normalised_entropy(logits: Tensor) -> Tensor:
    r"""Entropy over the largest possible one, :math:`-\frac{1}{\log K} \sum_k p_k \log p_k`, in 0 … 1."""
    return mean_entropy(logits) * logits.shape[1]


def class_histograms(uncertainty: Tensor, predicted: Tensor, counted: Tensor, classes: int, bins: int = BINS) -> Tensor:
    """How often each class is predicted with which uncertainty.

    Args:
        uncertainty: (B, H, W) in 0 … 1.
        predicted: (B, H, W) classes.
        counted: (B, H, W) bool, pixels to count.
        classes: rows of the table.
        bins: columns of the table, of equal width.

    Returns:
        (classes, bins) int64.
    """
    column = (uncertainty[counted] * bins).long().clamp(0, bins - 1)
    places = predicted[counted] * bins + column
    return torch.bincount(places, minlength=classes * bins).view(classes, bins)


def released_median(histogram: Tensor) -> float:
    """What the released code takes for the median of a histogram on 0 … 1; 0 for an empty one.

    Walking along the bins it adds the *number of the bin* where the count is meant, so that it stops at the first bin which
    alone holds about half of everything. It may end with NaN or infinity, where it divides by an empty bin.
    """
    counts = histogram.double()
    half = counts.sum() / 2
    if half == 0:
        return 0.0
    bins = len(counts)
    numbers = torch.arange(bins, dtype=torch.double, device=counts.device)
    passed = numbers.cumsum(0) - numbers  # what was added before each bin
    found = ((passed <= half) & (half <= passed + counts)).nonzero()
    at = int(found[0]) if len(found) else bins - 1
    return float(at / bins + (half - passed[at]) / counts[at] / bins)


def histogram_median(histogram: Tensor) -> float:
    """Median of a histogram on 0 … 1, interpolated within its bin; 0 for an empty one."""
    counts = histogram.double()
    half = counts.sum() / 2
    if half == 0:
        return 0.0
    reached = counts.cumsum(0)
    at = int((reached >= half).nonzero()[0])
    return float((at + (half - (reached[at] - counts[at])) / counts[at]) / len(counts))


def pseudo_labels(
    labels: Tensor, predicted: Tensor, uncertainty: Tensor, thresholds: Tensor, old_channels: int
) -> tuple[Tensor, Tensor]:
    """Give hidden pixels the class that the old network is sure about, and ignore the hidden pixels it is not sure about.

    Args:
        labels: (B, H, W), 255 = ignore; left unchanged.
        predicted: (B, H, W), classes of the old network, background included.
        uncertainty: (B, H, W).
        thresholds: (K,) by predicted class; at a NaN nothing is sure.
        old_channels: K_old; labels below it hide something.

    Returns:
        Labels (B, H, W), and for each image the share of its hidden pixels that the old network is sure about, (B,).

    Source: PLOP (2021), eq. 8-9; released code, where that share multiplies the loss of the whole image.
    """
    hidden = labels < old_channels
    sure = hidden & (uncertainty < thresholds[predicted])
    replaced = torch.where(sure, predicted, torch.where(hidden, IGNORE, labels))
    share = sure.sum(dim=(1, 2)) / (hidden.sum(dim=(1, 2)) + 1e-6)
    return replaced, share
