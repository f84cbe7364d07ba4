"""Losses of a background that adapts by residuals, one per step.

Zhang & Gao, "Background Adaptation with Residual Modeling for Exemplar-Free Class-Incremental Semantic Segmentation" (BARM),
ECCV 2024. A step's residual is added to the background logit, and only if it is negative.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from model.data.prepared.labels import IGNORE
from model.losses.distillation import sigmoid_distillation
from model.losses.precision import at_least_single


def coarse_labels(labels: Tensor, size: Sequence[int]) -> Tensor:
    """Labels (B, H, W) at another size (h, w), by nearest neighbour as ``interpolate`` has it: the top left of each cell."""
    return functional.interpolate(labels.unsqueeze(1).double(), size=tuple(size), mode="nearest")[:, 0].to(labels.dtype)


def residual_triplet(residual: Tensor, nothing_new: Tensor) -> Tensor:
    r"""Keep the residual from being negative where nothing new is labelled, so that the background stays as it was.

    .. math:: L = \frac{1}{\#} \sum_i \max\bigl(0,\; (1 - σ(r_i))^2 - σ(r_i)^2\bigr)

    Args:
        residual: (B, h, w), of the newest step.
        nothing_new: (B, h, w) bool: where the label, before any pseudo-label, is background; # is their number.

    Returns:
        Scalar; 0 where there is no such position (the released code divides by zero there).

    Source: BARM (2024), background adaptation triplet loss; released code.
    """
    score = at_least_single(residual).sigmoid()
    values = ((1 - score).square() - score.square()).clamp(min=0) * nothing_new
    return values.sum() / nothing_new.sum().clamp(min=1)


def residual_on_new_classes(residual: Tensor, new: Tensor) -> Tensor:
    """Binary cross-entropy that makes the residual negative on the new classes.

    Args:
        residual: (B, h, w), of the newest step.
        new: (B, h, w) bool: where a new class is labelled.

    Returns:
        Scalar, mean over these positions; 0 where there is none.

    Source: BARM (2024), background adaptation cross-entropy; released code.
    """
    values = functional.softplus(at_least_single(residual)) * new
    return values.sum() / (new.sum() + 1e-8)


def background_feature_distillation(
    branches: Sequence[Tensor], old_branches: Sequence[Tensor], nothing_new: Tensor
) -> Tensor:
    """Mean squared difference of branch features where nothing new is labelled, summed over the old branches.

    Args:
        branches: features of each step's branch, (B, C, h, w) each, at least as many as there are old ones.
        old_branches: those of the previous step's network; no gradient flows into them.
        nothing_new: (B, h, w) bool; other positions count in the mean with difference 0.

    Source: BARM (2024), background feature distillation; released code.
    """
    mask = nothing_new.unsqueeze(1)
    pairs = zip(branches, old_branches, strict=False)  # the newest branch has no old counterpart
    differences = [(at_least_single(new) - at_least_single(old.detach())) * mask for new, old in pairs]
    return torch.stack([difference.square().mean() for difference in differences]).sum()


def group_distillation(heads: Sequence[Tensor], old_heads: Sequence[Tensor]) -> Tensor:
    """Binary cross-entropy of each head with its old sigmoids, its background channel included.

    Sum over channels and heads, mean over positions; residuals are not clamped.

    Args:
        heads: outputs of each step's head, (B, 1 + N_s, h, w) each, at least as many as there are old ones.
        old_heads: those of the previous step's network; no gradient flows into them.

    Source: BARM (2024), group knowledge distillation; released code.
    """
    pairs = zip(heads, old_heads, strict=False)  # the newest head has no old counterpart
    return torch.stack([sigmoid_distillation(at_least_single(new), at_least_single(old)) for new, old in pairs]).sum()


def class_prototypes(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean feature of every class in every image; background and ignored pixels make none.

    Args:
        features: (B, C, h, w).
        labels: (B, H, W), reduced to h x w by :func:`coarse_labels`.

    Returns:
        Prototypes (n, C), and the class (n,) of each: classes ascending, images in their order within a class. A class of an
        image that the reduction loses has no prototype.

    Source: released code of BARM, which extracts them for inspection; its losses do not read them.
    """
    coarse = coarse_labels(labels, features.shape[2:])
    found = [int(place) for place in coarse.unique() if place not in (0, IGNORE)]
    rows, classes = [features.new_zeros(0, features.shape[1])], []
    for place in found:
        members = (coarse == place).to(features)
        count = members.sum(dim=(1, 2))
        sums = torch.einsum("bchw,bhw->bc", features, members)
        rows.append(sums[count > 0] / count[count > 0, None])
        classes += [place] * int((count > 0).sum())
    return torch.cat(rows), torch.tensor(classes, dtype=labels.dtype, device=labels.device)
