"""The DeepLabV3 head of MiB, PLOP and SDR.

Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation", 2017, in the variant released with MiB
(Cermelli et al., CVPR 2020): the pooled branch is added after the projection instead of being concatenated before it.

    A = act(norm(concat(a_0 … a_3)))                 a_0: 1x1, a_1 … a_3: dilated 3x3, none with a bias
    P = conv(act(norm(conv(pool(F)))))
    X = act(norm(conv(A) + P))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.networks.layers import Activation, activation, is_normalisation, xavier_gain

Initialisation = Literal["xavier", "pytorch"]


def windowed_average(features: Tensor, window: int) -> Tensor:
    """Average over a sliding window, of the size of the input: borders repeat the outermost full window.

    A window at least as large as the map gives the global average everywhere.

    Args:
        features: (B, C, h, w).
        window: side of the window in cells, limited to the size of the map.
    """
    height, width = min(window, features.shape[2]), min(window, features.shape[3])
    pooled = functional.avg_pool2d(features, (height, width), stride=1)
    left, top = (width - 1) // 2, (height - 1) // 2
    return functional.pad(pooled, (left, width - 1 - left, top, height - 1 - top), mode="replicate")


class MibHead(nn.Module):
    """(B, C, h, w) to (B, channels, h, w); parameter names as in the released checkpoints."""

    def __init__(
        self,
        in_channels: int,
        channels: int = 256,
        *,
        rates: Sequence[int] = (6, 12, 18),
        act: Activation = "leaky-relu",
        momentum: float = 0.1,
        pooling_window: int = 32,
        initialisation: Initialisation = "xavier",
    ) -> None:
        """
        Args:
            in_channels: of the backbone.
            channels: of every branch and of the output.
            rates: dilations of the 3x3 branches.
            act: ``leaky-relu`` as released with InPlaceABN; ``identity`` for SDR's linear head.
            momentum: of the running statistics.
            pooling_window: side of the pooling window in evaluation mode, in cells; 32 is a 512 crop at stride 16.
            initialisation: ``pytorch`` keeps the layers' defaults: SDR's release leaves the other one out.
        """
        super().__init__()
        self.pooling_window = pooling_window
        branches = [nn.Conv2d(in_channels, channels, 1, bias=False)]
        branches += [nn.Conv2d(in_channels, channels, 3, padding=r, dilation=r, bias=False) for r in rates]
        self.map_convs = nn.ModuleList(branches)
        self.map_bn = nn.BatchNorm2d(channels * len(branches), momentum=momentum)
        self.global_pooling_conv = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.global_pooling_bn = nn.BatchNorm2d(channels, momentum=momentum)
        self.red_conv = nn.Conv2d(channels * len(branches), channels, 1, bias=False)
        self.pool_red_conv = nn.Conv2d(channels, channels, 1, bias=False)
        self.red_bn = nn.BatchNorm2d(channels, momentum=momentum)
        self.activation = activation(act)
        if initialisation == "xavier":
            self.reset_parameters(xavier_gain(act))

    def reset_parameters(self, gain: float) -> None:
        """Xavier-normal convolutions and unit normalisation."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_normal_(module.weight, gain)
            elif is_normalisation(module):
                nn.init.ones_(module.weight)  # type: ignore[arg-type]
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def pool(self, features: Tensor) -> Tensor:
        """Global average in training; a sliding window in evaluation, where images may be larger than crops."""
        if self.training:
            return features.mean(dim=(2, 3), keepdim=True)
        return windowed_average(features, self.pooling_window)

    def branches(self, features: Tensor) -> Tensor:
        """Normalised outputs of the parallel convolutions, (B, 4 * channels, h, w)."""
        normalised: Tensor = self.map_bn(torch.cat([conv(features) for conv in self.map_convs], dim=1))
        return normalised

    def forward(self, features: Tensor) -> Tensor:
        out = self.red_conv(self.activation(self.branches(features)))
        pooled = self.activation(self.global_pooling_bn(self.global_pooling_conv(self.pool(features))))
        return self.activation(self.red_bn(out + self.pool_red_conv(pooled)))
