"""Mask losses on sampled points instead of whole masks.

Kirillov et al., "PointRend", CVPR 2020; used by Mask2Former (2022), section 3.3, with the numbers of its released code:
most points go where the prediction is uncertain, the others anywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Candidates:
    """Points that may be chosen for each mask, and points that are used anyway.

    Attributes:
        uniform: (N, n, 2), of which the ``kept`` most undecided are chosen.
        rest: (N, r, 2).
        kept: number of points to be chosen.
    """

    uniform: Tensor
    rest: Tensor
    kept: int


def draw_candidates(
    sets: int, count: int, draw: PointSource, oversampling: float = 3.0, importance: float = 0.75
) -> Candidates:
    """Draw for some masks what :func:`undecided_among` chooses from; arguments as in :func:`undecided_points`."""
    kept = int(importance * count)
    uniform = draw(sets, int(oversampling * count))
    return Candidates(uniform, draw(sets, count - kept), kept)


@torch.no_grad()
def undecided_among(masks: Tensor, candidates: Candidates, boundary: float = 0.0) -> Tensor:
    """The candidates of each mask (N, 1, h, w) whose values are nearest to the boundary, and the other points: (N, P, 2)."""
    undecided = -(sample_points(masks.detach(), candidates.uniform)[:, 0] - boundary).abs()  # N, candidates
    index = undecided.topk(candidates.kept, dim=1).indices
    chosen = candidates.uniform.gather(1, index[..., None].expand(-1, -1, 2))
    return torch.cat((chosen, candidates.rest), dim=1)


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
    return undecided_among(masks, draw_candidates(masks.shape[0], count, draw, oversampling, importance), boundary)
