"""Sparse features: the few channels that describe a pixel are large, the others small.

Michieli & Zanuttigh, "Continual Semantic Segmentation via Repulsion-Attraction of Sparse and Disentangled Latent
Representations" (SDR), CVPR 2021.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from model.losses.precision import at_least_single

Normalisation = Literal["class-max", "pixel-max", "batch-max", "l1", "l2", "softmax"]
Shrinking = Literal["exponential", "squared", "cubed"]
Form = Literal["ratio", "lasso", "entropy"]

EPSILON = 1e-15
ENTROPY_EPSILON = 1e-10

_SHRUNK: dict[Shrinking, Callable[[Tensor], Tensor]] = {
    "exponential": torch.exp,
    "squared": torch.square,
    "cubed": lambda x: x**3,
}


def _over_class_maximum(features: Tensor, labels: Tensor) -> Tensor:
    """Every pixel's features over the largest entry, of all channels and pixels, of its class in the batch."""
    pixel_maxima = features.amax(dim=1)
    divisor = torch.ones_like(pixel_maxima)
    for c in labels.unique():
        members = labels == c
        largest = pixel_maxima.masked_fill(~members, -torch.inf).max()
        divisor = torch.where(members, largest + EPSILON, divisor)
    return features / divisor.unsqueeze(1)


def normalised(features: Tensor, normalisation: Normalisation, labels: Tensor | None = None) -> Tensor:
    """Features (B, C, h, w) on a common scale: over a maximum, a norm of each pixel, or as a distribution over channels.

    Raises:
        ValueError: for an unknown normalisation, or ``class-max`` without labels.
    """
    match normalisation:
        case "class-max":
            if labels is None:
                raise ValueError("the normalisation class-max needs labels of the size of the features")
            return _over_class_maximum(features, labels)
        case "pixel-max":
            return features / (features.amax(dim=1, keepdim=True) + EPSILON)
        case "batch-max":
            return features / (features.max() + EPSILON)
        case "l1":
            return functional.normalize(features, p=1, dim=1)
        case "l2":
            return functional.normalize(features, p=2, dim=1)
        case "softmax":
            return features.softmax(dim=1)
    raise ValueError(f"unknown normalisation '{normalisation}'")


def sparsity(
    features: Tensor,
    labels: Tensor | None = None,
    *,
    normalisation: Normalisation = "class-max",
    shrinking: Shrinking = "exponential",
    form: Form = "ratio",
) -> Tensor:
    r"""How evenly features are spread over channels, :math:`\mathrm{mean}_i \sum_j s(\bar f_{ij}) / \sum_j \bar f_{ij}`.

    :math:`\bar f` are the normalised features and s the shrinking function. Every form of this ratio is *larger* for a sparse
    code than for an even one, so descending on it alone does not make features sparser; it is what the release optimises. The
    entropy does fall with sparseness. Computed in single precision at least: the small constants vanish in half precision.

    Args:
        features: (B, C, h, w), not negative.
        labels: (B, h, w), for ``class-max``; 255 counts as a class of its own, as released.
        normalisation: see :func:`normalised`.
        shrinking: s, for the form ``ratio``.
        form: ``ratio``; ``entropy`` of the normalised features, meant for ``l1`` and ``softmax``; ``lasso``: half the sum of all
            absolute values, without normalisation.

    Returns:
        Scalar; 0 for ``class-max`` in a batch that is nothing but background.

    Source: SDR (2021), sparsity; released code.
    """
    features = at_least_single(features)
    if form == "lasso":
        return features.abs().sum() / 2
    if normalisation == "class-max" and labels is not None and not labels.any():
        return features.new_zeros(())
    scaled = normalised(features, normalisation, labels)
    if form == "entropy":
        return -(scaled * (scaled + ENTROPY_EPSILON).log()).sum(dim=1).mean()
    return (_SHRUNK[shrinking](scaled).sum(dim=1) / (scaled.sum(dim=1) + EPSILON)).mean()
