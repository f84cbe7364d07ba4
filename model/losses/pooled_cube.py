"""Pooled cube distillation: two networks compared by local averages of the energy of their feature maps.

Zhang, Xiao, Liu, Chen & Cheng, "Representation Compensation Networks for Continual Semantic Segmentation" (RCIL), CVPR 2022.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from model.losses.precision import at_least_single

WINDOWS = (4, 8, 12, 16, 20, 24)
"""Sides of the released windows, in cells of the map."""

NEIGHBOURS = 3
"""Channels that the channel average spans."""


def energy_difference(features: Tensor, old_features: Tensor) -> Tensor:
    """Difference of the squares, (B, C, h, w): both averages are linear, so that it can be taken before them.

    Args:
        features: (B, C, h, w) of the network in training.
        old_features: the same of the previous step's network; no gradient flows into it.
    """
    return at_least_single(old_features.detach()).square() - at_least_single(features).square()


def spatial_cube_distance(difference: Tensor, windows: Sequence[int] = WINDOWS) -> Tensor:
    r"""Mean over windows and images of :math:`\lVert \mathrm{avg}_{k × k}(D) \rVert_2`, a scalar.

    A window moves cell by cell over the map with ``⌊k/2⌋`` zeros around it, which the mean counts: it always divides by k².

    Args:
        difference: (B, C, h, w), D of :func:`energy_difference`.
        windows: sides k.

    Source: RCIL (2022), spatial part of the pooled cube distillation; released code.
    """
    distances = [_norm(functional.avg_pool2d(difference, k, stride=1, padding=k // 2)) for k in windows]
    return torch.stack(distances).mean()


def channel_cube_distance(difference: Tensor) -> Tensor:
    r"""Mean over images of :math:`\lVert \mathrm{avg}_{3}(D) \rVert_2` over neighbouring channels, a scalar.

    The first and the last channel are padded with zeros, which the mean includes.

    Args:
        difference: (B, C, h, w), D of :func:`energy_difference`.

    Source: RCIL (2022), channel part of the pooled cube distillation; released code.
    """
    rows = difference.flatten(2).transpose(1, 2)  # B, positions, C
    return _norm(functional.avg_pool1d(rows, NEIGHBOURS, stride=1, padding=NEIGHBOURS // 2))


def _norm(values: Tensor) -> Tensor:
    return torch.linalg.vector_norm(values.flatten(1), dim=1).mean()
