"""Atrous spatial pyramid pooling with the names of the released DKD, STAR, SSUL and BARM networks.

Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation", 2017: a 1x1 branch, dilated 3x3 branches and
image pooling, concatenated, projected, dropped out.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.networks.layers import Activation, activation


def unit(
    inputs: int, outputs: int, kernel: int, *, rate: int = 1, act: Activation = "relu", momentum: float = 0.1
) -> list[nn.Module]:
    """Convolution without bias that keeps the size, batch normalisation, activation."""
    conv = nn.Conv2d(inputs, outputs, kernel, padding=rate * (kernel // 2), dilation=rate, bias=False)
    return [conv, nn.BatchNorm2d(outputs, momentum=momentum), activation(act)]


def initialise_kaiming(module: nn.Module) -> None:
    """Kaiming-normal weights for every convolution in a module."""
    for child in module.modules():
        if isinstance(child, nn.Conv2d):
            nn.init.kaiming_normal_(child.weight)


class Aspp(nn.Module):
    """(B, C, h, w) to (B, channels, h, w)."""

    def __init__(
        self,
        in_channels: int,
        channels: int = 256,
        *,
        rates: Sequence[int] = (6, 12, 18),
        act: Activation = "relu",
        momentum: float = 0.1,
        dropout: float = 0.1,
    ) -> None:
        """
        Args:
            in_channels: of the backbone.
            channels: of every branch and of the output.
            rates: dilations of the 3x3 branches.
            act: activation after every normalisation.
            momentum: of the running statistics.
            dropout: probability after the projection.
        """
        super().__init__()

        def branch(kernel: int, rate: int = 1) -> list[nn.Module]:
            return unit(in_channels, channels, kernel, rate=rate, act=act, momentum=momentum)

        branches = [nn.Sequential(*branch(1))]
        branches += [nn.Sequential(*branch(3, rate)) for rate in rates]
        branches.append(nn.Sequential(nn.AdaptiveAvgPool2d(1), *branch(1)))
        self.convs = nn.ModuleList(branches)
        projection = unit(channels * len(branches), channels, 1, act=act, momentum=momentum)
        self.project = nn.Sequential(*projection, nn.Dropout(dropout))
        initialise_kaiming(self)

    def forward(self, features: Tensor) -> Tensor:
        *local, pooled = [branch(features) for branch in self.convs]
        pooled = functional.interpolate(pooled, size=features.shape[2:], mode="bilinear", align_corners=False)
        projected: Tensor = self.project(torch.cat([*local, pooled], dim=1))
        return projected
