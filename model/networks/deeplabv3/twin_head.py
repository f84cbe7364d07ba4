"""The DeepLabV3 head of RCIL: that of MiB, whose parallel convolutions have twins.

Zhang, Xiao, Liu, Chen & Cheng, "Representation Compensation Networks for Continual Semantic Segmentation" (RCIL), CVPR 2022.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from model.networks.deeplabv3.mib_head import MibHead
from model.networks.twins import MergedConv2d, Mixture, Twins, free_twin

XAVIER_GAIN = 1.0
"""The release initialises the head as if nothing was activated: normalisation and activation are modules of their own there."""


class TwinMibHead(MibHead):
    """(B, C, h, w) to (B, channels, h, w); parameter names as in the released checkpoints, twins end in ``_new``."""

    def __init__(self, *arguments: Any, momentum: float = 0.1, **options: Any) -> None:
        """Arguments as of :class:`model.networks.deeplabv3.mib_head.MibHead`."""
        super().__init__(*arguments, momentum=momentum, **options)
        plain: list[nn.Conv2d] = list(self.map_convs)  # type: ignore[arg-type]
        self.map_convs = nn.ModuleList(map(MergedConv2d, plain))
        self.map_convs_new = nn.ModuleList(map(free_twin, plain))
        self.map_bn_new = nn.BatchNorm2d(self.map_bn.num_features, momentum=momentum)
        self.mixture = Mixture()
        self.reset_parameters(XAVIER_GAIN)

    @property
    def twins(self) -> tuple[Twins, ...]:
        """The one pair of branches."""
        first: Any = tuple(self.map_convs)
        second: Any = tuple(self.map_convs_new)
        return (Twins(first, self.map_bn, second, self.map_bn_new),)

    def branches(self, features: Tensor) -> Tensor:
        second = self.map_bn_new(torch.cat([conv(features) for conv in self.map_convs_new], dim=1))
        mixed: Tensor = self.mixture(super().branches(features), second)
        return mixed
