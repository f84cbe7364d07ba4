"""Local pooled outputs distillation (Local POD): two networks compared by strips of their feature maps.

Douillard et al., "PLOP: Learning without Forgetting for Continual Semantic Segmentation", CVPR 2021.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from model.losses.precision import at_least_single

SCALES = (1, 2, 4)


def local_pooled_embedding(features: Tensor, scales: Sequence[int] = SCALES) -> Tensor:
    """Means along the width and along the height inside the cells of several grids.

    At scale s the map is divided into s x s cells of ⌊h/s⌋ x ⌊w/s⌋, remainders being left out. (The released code takes the
    width for both sides; maps of training crops are square.) A grid finer than the map adds nothing, as released.

    Args:
        features: (B, C, h, w).
        scales: cells along each side of the map.

    Returns:
        (B, E): for each scale and cell, row by row, the C x height means over its width, then the C x width means over its
        height.

    Raises:
        ValueError: if the map has fewer rows or columns than every grid has cells.

    Source: PLOP (2021), eq. 3-5; released code.
    """
    batch, channels, height, width = features.shape
    parts = []
    for scale in scales:
        rows, columns = height // scale, width // scale
        if not rows or not columns:
            continue
        cells = features[:, :, : scale * rows, : scale * columns].reshape(batch, channels, scale, rows, scale, columns)
        over_width = cells.mean(dim=5).permute(0, 2, 4, 1, 3)  # B, row, column, C, rows
        over_height = cells.mean(dim=3).permute(0, 2, 3, 1, 4)  # B, row, column, C, columns
        strips = torch.cat([over_width.flatten(3), over_height.flatten(3)], dim=3)
        parts.append(strips.flatten(1))
    if not parts:
        coarsest = min(scales, default=0)
        raise ValueError(
            f"a map of {height} x {width} has no {coarsest} x {coarsest} cells; use smaller scales or larger crops"
        )
    return torch.cat(parts, dim=1)


def local_pod(features: Tensor, old_features: Tensor, scales: Sequence[int] = SCALES, squared: bool = True) -> Tensor:
    r"""Mean over the images of :math:`\lVert Φ(x_{old}^2) - Φ(x^2) \rVert_2`, with Φ of :func:`local_pooled_embedding`.

    Neither the maps nor the embeddings are normalised.

    Args:
        features: (B, C, h, w) of the network in training.
        old_features: the same of the previous step's network; no gradient flows into it.
        scales: see :func:`local_pooled_embedding`.
        squared: False compares the maps as they are (PLOP on mask networks, in CoMFormer's released code).
    """
    x, old = at_least_single(features), at_least_single(old_features.detach())
    ours = local_pooled_embedding(x.square() if squared else x, scales)
    theirs = local_pooled_embedding(old.square() if squared else old, scales)
    return torch.linalg.vector_norm(theirs - ours, dim=1).mean()


def fold_new_channels(logits: Tensor, old_channels: int) -> Tensor:
    """Add the channels of new classes to the background: (B, K, h, w) to (B, K_old, h, w).

    Source: PLOP, released code: the sum is over raw logits.
    """
    new = logits[:, old_channels:].sum(dim=1, keepdim=True)
    return torch.cat([logits[:, :1] + new, logits[:, 1:old_channels]], dim=1)
