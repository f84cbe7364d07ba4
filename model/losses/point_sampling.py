"""Mask losses on sampled points instead of whole masks.

Kirillov et al., "PointRend", CVPR 2020; used by Mask2Former (2022), section 3.3, with the numbers of its released code:
most points go where the prediction is uncertain, the others anywhere.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

PointSource = Callable[[int, int], Tensor]
"""(sets, points) to (sets, points, 2) coordinates (x, y), independent and uniform in [0, 1]."""


def uniform_points(device: torch.device | str, generator: torch.Generator | None = None) -> PointSource:
    """A source of uniform points on a device, drawn from ``generator`` or from torch's global one."""

    def draw(sets: int, points: int) -> Tensor:
        return torch.rand(sets, points, 2, device=device, generator=generator)

    return draw


def sample_points(maps: Tensor, points: Tensor) -> Tensor:
    """Bilinear samples of maps at points.

    Args:
        maps: (N, C, H, W).
        points: (N, P, 2), (x, y) as fractions of the map; pixel centres are at (i + 0.5) / size, outside is zero.

    Returns:
        (N, C, P).
    """
    grid = 2.0 * points.to(maps.dtype)[:, :, None, :] - 1.0
    return F.grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=False).squeeze(-1)


def undecided_points(
    masks: Tensor,
    count: int,
    draw: PointSource,
    oversampling: float = 3.0,
    importance: float = 0.75,
    boundary: float = 0.0,
) -> Tensor:
    """Points for the mask losses, preferably where the prediction is undecided.

    ``oversampling · count`` uniform candidates are drawn for each mask and their values sampled; the
    ``⌊importance · count⌋`` nearest to the boundary are kept and joined by fresh uniform points.

    Args:
        masks: (N, 1, h, w) mask logits or probabilities; no gradient flows into them.
        count: points for each mask.
        draw: source of uniform points; called twice, for the candidates and for the other points.
        oversampling: candidates for each point.
        importance: share of points taken from the candidates.
        boundary: value between inside and outside: 0 for logits, 0.5 for probabilities.

    Returns:
        (N, count, 2).

    Source: PointRend, section 3.1; the uncertainty is that of the sampled value, not a sample of the uncertainty.
    """
    sets = masks.shape[0]
    kept = int(importance * count)
    with torch.no_grad():
        candidates = draw(sets, int(oversampling * count))
        rest = draw(sets, count - kept)
        undecided = -(sample_points(masks.detach(), candidates)[:, 0] - boundary).abs()  # N, candidates
        index = undecided.topk(kept, dim=1).indices
        chosen = candidates.gather(1, index[..., None].expand(-1, -1, 2))
        return torch.cat((chosen, rest), dim=1)
