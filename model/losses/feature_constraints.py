"""Constraints on the features of the network in training: old classes stay where they were, new ones keep their distance.

Chen et al., "Saving 100x Storage: Prototype Replay for Reconstructing Training Sample Distribution in Class-Incremental
Semantic Segmentation" (STAR), NeurIPS 2023.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from model.losses.precision import at_least_single


def _reduced(maps: Tensor, features: Tensor) -> Tensor:
    """(B, N, H, W) maps at the size of a feature map, bilinearly."""
    return functional.interpolate(maps.to(features), size=features.shape[2:], mode="bilinear", align_corners=False)


def unit(vectors: Tensor, dim: int) -> Tensor:
    """Vectors over their length; zero vectors, which rectified features may be, stay zero and pass a moderate gradient."""
    length = torch.linalg.vector_norm(vectors, dim=dim, keepdim=True)
    return vectors / torch.where(length > 0, length, 1.0)


def old_class_consistency(features: Tensor, old_features: Tensor, region: Tensor, offset: float = 0.0) -> Tensor:
    r"""Mean squared difference of two feature maps inside a region, :math:`\sum a \lVert x - x_{old} \rVert^2 / (C \sum a + o)`.

    Args:
        features: (B, C, h, w) of the network in training.
        old_features: the same of the previous step's network; no gradient flows into it.
        region: (B, H, W), 1 inside and 0 outside; a is the region reduced to h x w.
        offset: o; 1e-4 in Adapter.

    Returns:
        Scalar; 0 if the region is empty (STAR's released code divides by zero there).

    Source: STAR (2023), "old-class features maintaining"; released code. Adapter (2025), released code.
    """
    features = at_least_single(features)
    inside = _reduced(region.unsqueeze(1), features)
    weight = inside.sum() * features.shape[1]
    total = (inside * (features - old_features.detach()).square()).sum()
    return total / torch.where(weight > 0, weight + offset, 1.0)


def similarity_aware_discrimination(features: Tensor, labels: Tensor, new: range, old_prototypes: Tensor) -> Tensor:
    r"""Push new classes away from the most similar old one, :math:`\mathrm{mean}_j\, 1 / \min_c \lVert m_j - p_c \rVert`.

    :math:`m_j` is the unit mean direction of the features of new class j in the batch; a class that is not in it has
    :math:`m_j = 0` and contributes the constant 1.

    Args:
        features: (B, C, h, w).
        labels: (B, H, W).
        new: labels of the new classes.
        old_prototypes: (C_old, C), unit rows.

    Source: STAR (2023), "similarity-aware discriminative loss"; released code.
    """
    features = at_least_single(features)
    places = torch.arange(new.start, new.stop, device=labels.device).view(1, -1, 1, 1)
    members = _reduced(labels.unsqueeze(1) == places, features)  # B, N, h, w
    sums = torch.einsum("bchw,bnhw->nc", unit(features, dim=1), members)
    distances = torch.linalg.vector_norm(unit(sums, dim=1)[:, None] - old_prototypes[None], dim=2)
    return (1 / distances.min(dim=1).values).mean()
