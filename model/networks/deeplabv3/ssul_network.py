"""DeepLabV3 with one complete head per group of classes, as released with SSUL (Cha et al., NeurIPS 2021).

A head is a 3x3 convolution, normalisation and a 1x1 classifier. The groups are ``unknown``, ``background``, and the classes of
every step; outputs are concatenated in this order: channel 0 is unknown, channel 1 the background, and class k of the
learning order (from 1) is channel k + 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from model.losses.precision import at_least_single
from model.networks.deeplabv3.aspp import initialise_kaiming, unit
from model.networks.deeplabv3.growing import GrowingClassifier, GrowingDeepLabV3, upsampled
from model.networks.deeplabv3.outputs import PixelOutputs

UNKNOWN, BACKGROUND = 0, 1
"""Channels, and places in the list of heads."""


class SsulClassifier(GrowingClassifier):
    """Backbone features to logits; begins with the heads of unknown and background."""

    def __init__(
        self, in_channels: int, channels: int, *, rates: Sequence[int], momentum: float, dropout: float
    ) -> None:
        super().__init__(in_channels, channels, rates=rates, momentum=momentum, dropout=dropout)
        self.head = nn.ModuleList()
        for _ in (UNKNOWN, BACKGROUND):
            self.add_step(1)

    def add_step(self, new_classes: int) -> None:
        head = nn.Sequential(
            *unit(self.channels, self.channels, 3, momentum=self.momentum), nn.Conv2d(self.channels, new_classes, 1)
        )
        initialise_kaiming(head)
        self.head.append(head.to(next(self.aspp.parameters())))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, h, w) to what the heads see (B, channels, h, w), and logits (B, 2 + K, h, w)."""
        x = self.aspp(features)
        return x, torch.cat([head(x) for head in self.head], dim=1)


class SsulDeepLabV3(GrowingDeepLabV3):
    """ResNet backbone, pyramid pooling and heads; ``classes_per_step`` does not count unknown and background."""

    classifier_type = SsulClassifier
    classifier: SsulClassifier

    @property
    def heads(self) -> nn.ModuleList:
        """Unknown, background, then one head per step."""
        return self.classifier.head

    def forward(self, images: Tensor) -> PixelOutputs:
        """Images (B, 3, H, W) to :class:`PixelOutputs` with logits at their size."""
        features = self.backbone(images)
        x, coarse = self.classifier(features.body)
        coarse = at_least_single(coarse)
        return PixelOutputs(upsampled(coarse, images), x, features.body, coarse)


@torch.no_grad()
def copy_head(source: nn.Module, target: nn.Module) -> None:
    """Start a head from another one: convolution and normalisation with its statistics, and each class from its one output.

    Source: SSUL (2021), "weight transfer"; released code.
    """
    values = target.state_dict()
    for key, value in source.state_dict().items():
        values[key].copy_(value.expand_as(values[key]))
