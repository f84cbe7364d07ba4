"""Batch normalisation whose statistics, scale and shift are constants."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class FrozenBatchNorm2d(nn.Module):
    """``y = (x - mean) / √(var + ε) · weight + bias`` for every channel, with constants that come from pre-trained weights.

    Buffers and values are those of torchvision's class of this name (and of detectron2's). It is written out here because
    importing ``torchvision.ops`` loads torch's compiler, which takes longer than importing torch, in every job.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        """
        Args:
            channels: of the input.
            eps: added to the variance.
        """
        super().__init__()
        self.eps = eps
        for name, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
            self.register_buffer(name, torch.full((channels,), value))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        state_dict.pop(f"{prefix}num_batches_tracked", None)  # what ordinary batch normalisation has besides
        super()._load_from_state_dict(state_dict, prefix, *others)

    @property
    def affine(self) -> tuple[Tensor, Tensor]:
        """Scale and shift, (C,) each: all that the layer does."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return scale, self.bias - self.running_mean * scale

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        scale, shift = self.affine
        return x * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, eps={self.eps}"
