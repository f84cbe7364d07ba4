"""DeepLabV3 whose classifier gets a head of its own at every step: what the networks of SSUL and BARM have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional

from model.networks.arguments import Channels, Dilations, Momentum, Probability
from model.networks.deeplabv3.aspp import Aspp
from model.networks.deeplabv3.backbone import BackboneNorm, NetworkError, build_backbone, dilations


class GrowingClassifier(nn.Module):
    """Pyramid pooling with heads behind it; parameter names as in the released checkpoints."""

    def __init__(
        self, in_channels: int, channels: int, *, rates: Sequence[int], momentum: float, dropout: float
    ) -> None:
        super().__init__()
        self.channels, self.momentum = channels, momentum
        self.aspp = Aspp(in_channels, channels, rates=rates, momentum=momentum, dropout=dropout)

    def add_step(self, new_classes: int) -> None:
        """Append what a step needs, randomly initialised from the global generator."""
        raise NotImplementedError


class GrowingDeepLabV3(nn.Module):
    """Backbone and classifier; the state dict has ``backbone`` and ``classifier``."""

    classifier_type: ClassVar[type[GrowingClassifier]]

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
        """The defaults are the released networks.

        Args:
            classes_per_step: number of classes learnt in each step so far, the background not counted.
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
        self.classifier = self.classifier_type(
            width, channels, rates=dilations(rates, output_stride), momentum=head_momentum, dropout=dropout
        )
        self.classes_per_step: list[int] = []
        for classes in classes_per_step:
            self.grow(classes)

    def grow(self, new_classes: int) -> None:
        """Append a step's head.

        Raises:
            NetworkError: without a new class.
        """
        if new_classes < 1:
            raise NetworkError(f"a step needs at least one new class, got {new_classes}")
        self.classifier.add_step(new_classes)
        self.classes_per_step.append(new_classes)


def upsampled(coarse: Tensor, images: Tensor) -> Tensor:
    """Logits (B, K, h, w) at the size of the images."""
    return functional.interpolate(coarse, size=images.shape[2:], mode="bilinear", align_corners=False)
