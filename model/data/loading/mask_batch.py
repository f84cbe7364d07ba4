"""What a data loader yields to the training loop for networks that predict sets of masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class MaskTargets:
    """The labelled segments of one image: class and mask each.

    Attributes:
        labels: (N,) int64, positions in the learning order from 0; "no object" has no target.
        masks: (N, H, W) bool, of the padded image's size. Masks may be empty: segments that were cropped away.
    """

    labels: Tensor
    masks: Tensor

    def __post_init__(self) -> None:
        if self.labels.ndim != 1 or self.masks.ndim != 3 or len(self.labels) != len(self.masks):
            raise ValueError(
                f"targets need labels (N,) and masks (N, H, W), not {tuple(self.labels.shape)} "
                f"and {tuple(self.masks.shape)}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> MaskTargets:
        """The same targets on another device."""
        return MaskTargets(
            self.labels.to(device, non_blocking=non_blocking), self.masks.to(device, non_blocking=non_blocking)
        )

    def pin_memory(self) -> MaskTargets:
        """The same targets in page-locked memory, from which copies to a device do not make the host wait."""
        return MaskTargets(self.labels.pin_memory(), self.masks.pin_memory())

    def followed_by(self, others: MaskTargets) -> MaskTargets:
        """These targets, then the others of the same image."""
        return MaskTargets(torch.cat((self.labels, others.labels)), torch.cat((self.masks, others.masks)))


@dataclass(frozen=True)
class MaskBatch:
    """Images with sets of masks.

    Attributes:
        images: (B, 3, H, W) float, normalised and padded.
        labels: the targets of each image, length B.
        sizes: (height, width) of each image before padding, length B.
        names: image ids, length B, for messages.
        from_memory: (B,) bool, True for exemplars replayed from the memory.
        leaked: whether labels of a class of the next step are among the targets.
    """

    images: Tensor
    labels: Sequence[MaskTargets]
    sizes: Sequence[tuple[int, int]]
    names: tuple[str, ...]
    from_memory: Tensor
    leaked: bool = False

    def to(self, device: torch.device | str, non_blocking: bool = False) -> MaskBatch:
        """The same batch with its tensors on another device."""
        return replace(
            self,
            images=self.images.to(device, non_blocking=non_blocking),
            labels=tuple(targets.to(device, non_blocking) for targets in self.labels),
            from_memory=self.from_memory.to(device, non_blocking=non_blocking),
        )

    def pin_memory(self) -> MaskBatch:
        """The same batch in page-locked memory; the data loader calls it in a thread of its own."""
        return replace(
            self,
            images=self.images.pin_memory(),
            labels=tuple(targets.pin_memory() for targets in self.labels),
            from_memory=self.from_memory.pin_memory(),
        )

    def padded(self, height: int, width: int) -> MaskBatch:
        """The same batch on a larger canvas: zeros, which belong to no target, at the right and at the bottom."""
        more = (0, width - self.images.shape[-1], 0, height - self.images.shape[-2])
        return replace(
            self,
            images=functional.pad(self.images, more),
            labels=tuple(MaskTargets(one.labels, functional.pad(one.masks, more)) for one in self.labels),
        )

    def __len__(self) -> int:
        return len(self.names)
