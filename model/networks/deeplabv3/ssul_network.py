"""DeepLabV3 with one complete head per group of classes, as released with SSUL (Cha et al., NeurIPS 2021).

A head is a 3x3 convolution, normalisation and a 1x1 classifier. The groups are ``unknown``, ``background``, and the classes of
every step; outputs are concatenated in this order: channel 0 is unknown, channel 1 the background, and class k of the
learning order (from 1) is channel k + 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.networks.arguments import Channels, Dilations, Momentum, Probability
from model.networks.deeplabv3.aspp import Aspp, initialise_kaiming, unit
from model.networks.deeplabv3.backbone import BackboneNorm, NetworkError, build_backbone
from model.networks.deeplabv3.outputs import PixelOutputs

UNKNOWN, BACKGROUND = 0, 1
"""Channels, and places in the list of heads."""


class SsulClassifier(nn.Module):
    """Backbone features to logits; parameter names as in the released checkpoints."""

    def __init__(
        self, in_channels: int, channels: int, *, rates: Sequence[int], momentum: float, dropout: float
    ) -> None:
        super().__init__()
        self.channels, self.momentum = channels, momentum
        self.aspp = Aspp(in_channels, channels, rates=rates, momentum=momentum, dropout=dropout)
        self.head = nn.ModuleList()

    def add_head(self, outputs: int) -> None:
        """Append a head, randomly initialised from the global generator."""
        head = nn.Sequential(
            *unit(self.channels, self.channels, 3, momentum=self.momentum), nn.Conv2d(self.channels, outputs, 1)
        )
        initialise_kaiming(head)
        self.head.append(head.to(next(self.aspp.parameters())))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, h, w) to what the heads see (B, channels, h, w), and logits (B, 2 + K, h, w)."""
        x = self.aspp(features)
        return x, torch.cat([head(x) for head in self.head], dim=1)


class SsulDeepLabV3(nn.Module):
    """ResNet backbone, pyramid pooling and heads; the state dict has ``backbone``, ``classifier.aspp``, ``classifier.head``."""

    def __init__(
        self,
        classes_per_step: Sequence[int],
        *,
        backbone: str = "resnet101",
        backbone_norm: BackboneNorm = "own",
        output_stride: int = 16,
        backbone_momentum: Momentum = 0.01,
        head_momentum: Momentum = 0.1,
        channels: Channels = 256,
        rates: Dilations | None = None,
        dropout: Probability = 0.1,
    ) -> None:
        """The defaults are the released network.

        Args:
            classes_per_step: number of classes learnt in each step so far, unknown and background not counted.
            backbone, backbone_norm: of :class:`model.networks.deeplabv3.network.DeepLabV3`.
            output_stride: image size over feature size.
            backbone_momentum: of the backbone's running statistics.
            head_momentum: of all other running statistics.
            channels: of pyramid pooling and heads.
            rates: dilations of the pooling, None for 6, 12, 18 at stride 16 (scaled with the stride).
            dropout: after the pooling.

        Raises:
            NetworkError: for an unknown backbone, or a step without classes.
        """
        super().__init__()
        if not classes_per_step or min(classes_per_step) < 1:
            raise NetworkError(f"every step needs at least one class, got {list(classes_per_step)}")
        self.backbone, width = build_backbone(
            backbone, output_stride=output_stride, norm=backbone_norm, momentum=backbone_momentum
        )
        dilations = tuple(rates) if rates is not None else tuple(rate * 16 // output_stride for rate in (6, 12, 18))
        self.classifier = SsulClassifier(width, channels, rates=dilations, momentum=head_momentum, dropout=dropout)
        self.classes_per_step: list[int] = []
        for _ in (UNKNOWN, BACKGROUND):
            self.classifier.add_head(1)
        for classes in classes_per_step:
            self.grow(classes)

    @property
    def heads(self) -> nn.ModuleList:
        """Unknown, background, then one head per step."""
        return self.classifier.head

    def grow(self, new_classes: int) -> None:
        """Append a step's head.

        Raises:
            NetworkError: without a new class.
        """
        if new_classes < 1:
            raise NetworkError(f"a step needs at least one new class, got {new_classes}")
        self.classifier.add_head(new_classes)
        self.classes_per_step.append(new_classes)

    def forward(self, images: Tensor) -> PixelOutputs:
        """Images (B, 3, H, W) to :class:`PixelOutputs` with logits at their size."""
        features = self.backbone(images)
        x, coarse = self.classifier(features.body)
        if coarse.dtype in (torch.float16, torch.bfloat16):  # up-sampling and losses stay in single precision
            coarse = coarse.float()
        logits = functional.interpolate(coarse, size=images.shape[2:], mode="bilinear", align_corners=False)
        return PixelOutputs(logits, x, features.body, coarse)


@torch.no_grad()
def copy_head(source: nn.Module, target: nn.Module) -> None:
    """Start a head from another one: convolution and normalisation with its statistics, and each class from its one output.

    Source: SSUL (2021), "weight transfer"; released code.
    """
    values = target.state_dict()
    for key, value in source.state_dict().items():
        values[key].copy_(value.expand_as(values[key]))
