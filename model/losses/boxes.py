"""Boxes of masks and how they are compared.

Boxes are (…, 4): centre x, centre y, width, height, as fractions of the padded image. Carion et al., DETR (2020), section 3.1;
Rezatofighi et al., "Generalized Intersection over Union", CVPR 2019; the constants are those of SimCIS (CVPR 2025), as released.
"""

from __future__ import annotations

import torch
from torch import Tensor

EPSILON = 1e-6
"""Added to both denominators of the generalised overlap."""


def mask_boxes(masks: Tensor) -> Tensor:
    """Tight boxes of masks (N, H, W) bool: (N, 4) float32; right and bottom edges are exclusive, an empty mask has zeros."""
    height, width = masks.shape[-2:]
    rows, columns = masks.any(dim=2), masks.any(dim=1)  # N, H and N, W
    (top, bottom), (left, right) = _extent(rows), _extent(columns)
    box = torch.stack(
        [(left + right) / 2 / width, (top + bottom) / 2 / height, (right - left) / width, (bottom - top) / height]
    )
    return (box * rows.any(dim=1)).T.contiguous()


def _extent(present: Tensor) -> tuple[Tensor, Tensor]:
    """First place and the one behind the last, of rows (N, L) of flags."""
    flags = present.to(torch.uint8)
    first = flags.argmax(dim=1)
    last = flags.shape[1] - flags.flip(1).argmax(dim=1)
    return first.float(), last.float()


def corners(boxes: Tensor) -> Tensor:
    """Left, top, right and bottom of boxes (…, 4)."""
    centre, size = boxes[..., :2], boxes[..., 2:]
    return torch.cat([centre - size / 2, centre + size / 2], dim=-1)


def generalised_overlap(boxes: Tensor, others: Tensor) -> Tensor:
    r"""Generalised intersection over union of boxes that broadcast against each other.

    .. math:: \frac{|A ∩ B|}{|A ∪ B|} - \frac{|H| - |A ∪ B|}{|H|}, \quad H \text{ the smallest box around both}

    Args:
        boxes: (…, 4).
        others: (…, 4).
    """
    a, b = corners(boxes), corners(others)
    shared = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(dim=-1)
    hull = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).clamp(min=0).prod(dim=-1)
    areas = [(box[..., 2:] - box[..., :2]).prod(dim=-1) for box in (a, b)]
    union = areas[0] + areas[1] - shared
    return shared / (union + EPSILON) - (hull - union) / (hull + EPSILON)


def box_costs(boxes: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Absolute difference and minus the generalised overlap of every pair: (…, Q, 4) and (…, N, 4) to (…, Q, N) each."""
    return torch.cdist(boxes, wanted, p=1), -generalised_overlap(boxes[..., :, None, :], wanted[..., None, :, :])


def box_losses(boxes: Tensor, wanted: Tensor, normaliser: float | Tensor) -> tuple[Tensor, Tensor]:
    """Absolute differences and one minus generalised overlaps of matched boxes (N, 4), summed and divided by ``normaliser``."""
    return (boxes - wanted).abs().sum() / normaliser, (1 - generalised_overlap(boxes, wanted)).sum() / normaliser
