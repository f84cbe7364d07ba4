"""Labels on the coarse grid of a feature map."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def labels_at(labels: Tensor, maps: Tensor) -> Tensor:
    """Labels (B, H, W) at the size of other maps (…, h, w): row i takes row ⌊i · H / h⌋, the top-left pixel of its cell."""
    size = maps.shape[-2:]
    return functional.interpolate(labels.unsqueeze(1).double(), size=size, mode="nearest").squeeze(1).long()
