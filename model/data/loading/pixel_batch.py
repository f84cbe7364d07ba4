"""What a data loader yields to the training loop and the methods."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class PixelBatch:
    """Images with dense labels.

    Attributes:
        images: (B, 3, H, W) float, normalised.
        labels: (B, H, W) int64, positions in the learning order with 0 = background; 255 = ignore.
        names: image ids, length B, for messages.
        from_memory: (B,) bool, True for exemplars replayed from the memory.
        saliency: (B, H, W) bool, True where a saliency map shows an object; None unless the method uses such maps.
    """

    images: Tensor
    labels: Tensor
    names: tuple[str, ...]
    from_memory: Tensor
    saliency: Tensor | None = None

    def to(self, device: torch.device | str, non_blocking: bool = False) -> PixelBatch:
        """The same batch with its tensors on another device."""
        return replace(
            self,
            images=self.images.to(device, non_blocking=non_blocking),
            labels=self.labels.to(device, non_blocking=non_blocking),
            from_memory=self.from_memory.to(device, non_blocking=non_blocking),
            saliency=None if self.saliency is None else self.saliency.to(device, non_blocking=non_blocking),
        )

    def pin_memory(self) -> PixelBatch:
        """The same batch in page-locked memory; the data loader calls it in a thread of its own."""
        return replace(
            self,
            images=self.images.pin_memory(),
            labels=self.labels.pin_memory(),
            from_memory=self.from_memory.pin_memory(),
            saliency=None if self.saliency is None else self.saliency.pin_memory(),
        )

    def __len__(self) -> int:
        return len(self.names)
