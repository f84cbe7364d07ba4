"""The DeepLabV3 head of DKD and STAR.

Atrous spatial pyramid pooling, then a 3x3 convolution, as released with DKD (Baek et al., NeurIPS 2022) and STAR (Chen et
al., NeurIPS 2023). The output is never negative with ReLU, which DKD's split of the logits into reasons for and against a
class relies on.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from model.networks.deeplabv3.aspp import Aspp, initialise_kaiming, unit
from model.networks.layers import Activation


class DkdHead(Aspp):
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
        """Arguments as of :class:`model.networks.deeplabv3.aspp.Aspp`."""
        super().__init__(in_channels, channels, rates=rates, act=act, momentum=momentum, dropout=dropout)
        self.last_conv = nn.Sequential(*unit(channels, channels, 3, act=act, momentum=momentum))
        initialise_kaiming(self.last_conv)

    def forward(self, features: Tensor) -> Tensor:
        out: Tensor = self.last_conv(super().forward(features))
        return out
