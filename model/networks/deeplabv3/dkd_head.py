"""The DeepLabV3 head of DKD and STAR.

Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation", 2017: five branches, projection, dropout, then
a 3x3 convolution, as released with DKD (Baek et al., NeurIPS 2022) and STAR (Chen et al., NeurIPS 2023). The output is
never negative with ReLU, which DKD's split of the logits into reasons for and against a class relies on.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.networks.layers import Activation, activation


class DkdHead(nn.Module):
    """(B, C, h, w) to (B, channels, h, w); parameter names as in the released checkpoints."""

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

        def unit(inputs: int, kernel: int, rate: int = 1) -> list[nn.Module]:
            conv = nn.Conv2d(inputs, channels, kernel, padding=rate * (kernel // 2), dilation=rate, bias=False)
            return [conv, nn.BatchNorm2d(channels, momentum=momentum), activation(act)]

        branches = [nn.Sequential(*unit(in_channels, 1))]
        branches += [nn.Sequential(*unit(in_channels, 3, rate)) for rate in rates]
        branches.append(nn.Sequential(nn.AdaptiveAvgPool2d(1), *unit(in_channels, 1)))
        self.convs = nn.ModuleList(branches)
        self.project = nn.Sequential(*unit(channels * len(branches), 1), nn.Dropout(dropout))
        self.last_conv = nn.Sequential(*unit(channels, 3))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, features: Tensor) -> Tensor:
        *local, pooled = [branch(features) for branch in self.convs]
        pooled = functional.interpolate(pooled, size=features.shape[2:], mode="bilinear", align_corners=False)
        return self.last_conv(self.project(torch.cat([*local, pooled], dim=1)))
