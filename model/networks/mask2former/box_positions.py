"""Reference boxes of queries: what they start from, how they are encoded, how they move.

SimCIS (CVPR 2025), as released; the encoding of boxes is that of DAB-DETR (Liu et al., ICLR 2022).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

SMALLEST, LARGEST = 0.01, 0.99
"""Proposals with a number outside are no proposals."""
COARSE_SIDE = 0.05
"""Side of the proposals on the coarsest level; it doubles from level to level, so that the finest has the largest boxes."""
EDGE = 1e-5
"""Boxes are moved this far away from 0 and 1 before their logit is taken."""


def proposals(shapes: Sequence[tuple[int, int]], device: torch.device | str | None = None) -> tuple[Tensor, Tensor]:
    """A box around every cell of a pyramid.

    Args:
        shapes: (height, width) of each level, coarsest first.
        device: of the result.

    Returns:
        Logits (S, 4) of centre x, centre y, width, height, infinite where a number is not inside (0.01, 0.99); whether all are
        inside (S,) bool. S is the sum of the areas, row by row, level after level.
    """
    levels = []
    for level, (height, width) in enumerate(shapes):
        y = (torch.arange(height, device=device, dtype=torch.float32) + 0.5) / height
        x = (torch.arange(width, device=device, dtype=torch.float32) + 0.5) / width
        rows, columns = torch.meshgrid(y, x, indexing="ij")
        sides = torch.full_like(rows, COARSE_SIDE * 2**level)
        levels.append(torch.stack((columns, rows, sides, sides), dim=-1).flatten(0, 1))
    boxes = torch.cat(levels)
    valid = ((boxes > SMALLEST) & (boxes < LARGEST)).all(dim=-1)
    return boxes.logit().masked_fill(~valid[:, None], torch.inf), valid


def moved(boxes: Tensor, change: Tensor) -> Tensor:
    """Boxes (…, 4) after a change of their logits (…, 4)."""
    inside = boxes.clamp(0, 1)
    return (change + (inside.clamp(min=EDGE) / (1 - inside).clamp(min=EDGE)).log()).sigmoid()


def encoded(boxes: Tensor, features: int) -> Tensor:
    r"""Sines and cosines of boxes: centre y, centre x, width, height, one after the other.

    .. math:: \sin(2π u / T^{j/F}) \text{ for even } j, \quad \cos(2π u / T^{(j-1)/F}) \text{ for odd } j, \quad T = 10000

    Args:
        boxes: (…, 4).
        features: F of each number.

    Returns:
        (…, 4F).
    """
    index = torch.arange(features, dtype=torch.float32, device=boxes.device)
    wavelength = 10000.0 ** (2 * torch.div(index, 2, rounding_mode="floor") / features)
    turned = torch.cat([boxes[..., 1:2], boxes[..., :1], boxes[..., 2:]], dim=-1)
    angle = turned[..., None] * (2 * math.pi) / wavelength.to(boxes.dtype)  # …, 4, F
    return torch.stack((angle[..., 0::2].sin(), angle[..., 1::2].cos()), dim=-1).flatten(-3)
