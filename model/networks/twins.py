"""Twin convolutions: two branches of convolution and normalisation that are mixed, and merged into one at a new step.

Zhang, Xiao, Liu, Chen & Cheng, "Representation Compensation Networks for Continual Semantic Segmentation" (RCIL), CVPR 2022.

Before a step both branches are folded into the first one, which carries the old knowledge and is frozen from then on; the
second one is left unchanged and continues to learn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from model.common.devices import sent

FIRST_ONLY, SECOND_ONLY = 0.33, 0.66
"""Below the first bound a channel uses the first branch only, below the second one the second branch only."""


class MergedConv2d(nn.Conv2d):
    """A convolution whose bias is a constant: zero, until twins are merged into it. Its state dict has ``weight``, ``bias``."""

    bias: Tensor

    def __init__(self, plain: nn.Conv2d) -> None:
        """
        Args:
            plain: whose sizes are taken.
        """
        super().__init__(*sizes(plain), bias=False)
        del self._parameters["bias"]
        self.register_buffer("bias", torch.zeros(self.out_channels))


def free_twin(plain: nn.Conv2d) -> nn.Conv2d:
    """A new convolution of the same sizes, without bias."""
    return nn.Conv2d(*sizes(plain), bias=False)


def sizes(conv: nn.Conv2d) -> tuple[int, int, Any, Any, Any, Any]:
    """Channels, kernel, stride, padding and dilation of a convolution, in the order of its constructor."""
    return conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, conv.dilation


class Mixture(nn.Module):
    """Mix two branches channel by channel: one of them or their mean by chance in training, their mean in evaluation."""

    def __init__(self, draw: Callable[[int], Tensor] = torch.rand) -> None:
        """
        Args:
            draw: from a number of channels to as many numbers between 0 and 1, on the CPU. One draw holds for all images and
                positions of a batch.
        """
        super().__init__()
        self.draw = draw

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Two tensors (B, C, h, w) to one."""
        if not self.training:
            return (first + second) / 2
        drawn = self.draw(first.shape[1])
        share = torch.where(drawn < FIRST_ONLY, 1.0, torch.where(drawn < SECOND_ONLY, 0.0, 0.5)).view(1, -1, 1, 1)
        share = sent(share.to(first.dtype), first.device)
        return share * first + (1 - share) * second


@dataclass(frozen=True)
class Twins:
    """Two branches of one place of a network: side by side convolutions, and the normalisation of their concatenated outputs.

    Attributes:
        convs, norm: the first branch, that others are merged into.
        new_convs, new_norm: the second one; equal shapes.
    """

    convs: Sequence[MergedConv2d]
    norm: nn.BatchNorm2d
    new_convs: Sequence[nn.Conv2d]
    new_norm: nn.BatchNorm2d

    @torch.no_grad()
    def merge(self) -> None:
        r"""Make the first branch alone compute the mean of both, in evaluation mode, in place.

        .. math:: k = \tfrac12 \sum_i \frac{γ_i}{σ_i} k_i, \quad
                  b = \tfrac12 \sum_i \Bigl(β_i + \frac{γ_i}{σ_i} (b_i - m_i)\Bigr)

        The normalisation of the first branch becomes the identity, the second branch is left unchanged: the network as a whole
        then averages the old function with the second branch once more.

        Source: RCIL (2022), section 3.2; released code.
        """
        scale, shift = _affine(self.norm)
        new_scale, new_shift = _affine(self.new_norm)
        start = 0
        for conv, new_conv in zip(self.convs, self.new_convs, strict=True):
            part = slice(start, start := start + conv.out_channels)
            ours, theirs = scale[part], new_scale[part]
            conv.bias.copy_((ours * conv.bias + shift[part] + new_shift[part]) / 2)
            conv.weight.copy_((ours.view(-1, 1, 1, 1) * conv.weight + theirs.view(-1, 1, 1, 1) * new_conv.weight) / 2)
        _make_identity(self.norm)

    @torch.no_grad()
    def start_alike(self) -> None:
        """Make the second branch a copy of the first one."""
        for conv, new_conv in zip(self.convs, self.new_convs, strict=True):
            new_conv.weight.copy_(conv.weight)
        self.new_norm.load_state_dict(self.norm.state_dict())


def _affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Scale and shift (C,) of a normalisation in evaluation mode."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return scale, norm.bias - norm.running_mean * scale


def _make_identity(norm: nn.BatchNorm2d) -> None:
    """In evaluation mode; ε is taken off the variance, so that no other ε than everybody's has to be remembered."""
    assert norm.running_mean is not None and norm.running_var is not None
    norm.weight.fill_(1)
    norm.bias.fill_(0)
    norm.running_mean.fill_(0)
    norm.running_var.fill_(1 - norm.eps)
