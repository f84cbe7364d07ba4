"""DeepLabV3 with one classifier per step.

The classes of every step have a 1x1 classifier of their own, and the outputs are concatenated on the channel axis. The
variants that the released methods use differ in head, activation, dilation rule and in whether there is a background
channel; all of these are arguments of the constructor, set by the recipe.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from model.losses.precision import at_least_single
from model.networks.arguments import Channels, Count, Dilations, Momentum, Probability
from model.networks.deeplabv3.backbone import BackboneNorm, NetworkError, build_backbone, dilations
from model.networks.deeplabv3.dkd_head import DkdHead
from model.networks.deeplabv3.mib_head import Initialisation, MibHead
from model.networks.deeplabv3.outputs import PixelOutputs, UpsampledOutputs
from model.networks.layers import Activation


class StepwiseNetwork(nn.Module):
    """Backbone, head and one classifier per step; the state dict has ``backbone``, ``aspp`` and ``cls.<step>``."""

    def __init__(
        self,
        backbone: nn.Module,
        head: nn.Module,
        classes_per_step: Sequence[int],
        *,
        channels: int,
        background: bool,
        auxiliary: bool = False,
        kaiming_classifiers: bool = False,
    ) -> None:
        """
        Args:
            backbone: images to :class:`model.networks.backbones.resnet.Features`.
            head: its body (B, C, h, w) to (B, channels, h, w).
            classes_per_step: number of classes learnt in each step so far, the background not counted.
            channels: what the classifiers see.
            background: the first classifier begins with a background channel.
            auxiliary: a one-channel classifier comes before the first step's (DKD); features do not learn through it.
            kaiming_classifiers: initialise classifiers Kaiming-normal instead of PyTorch's way.

        Raises:
            NetworkError: for a step without classes.
        """
        super().__init__()
        if not classes_per_step or min(classes_per_step) < 1:
            raise NetworkError(f"every step needs at least one class, got {list(classes_per_step)}")
        self.backbone, self.aspp = backbone, head
        self.channels, self.background, self.auxiliary = channels, background, auxiliary
        self.kaiming_classifiers = kaiming_classifiers
        self.classes_per_step: list[int] = []
        self.cls = nn.ModuleList()
        if auxiliary:
            self.cls.append(self._classifier(1))
        for classes in classes_per_step:
            self.grow(classes)

    def _classifier(self, outputs: int) -> nn.Conv2d:
        classifier = nn.Conv2d(self.channels, outputs, 1)
        if self.kaiming_classifiers:
            nn.init.kaiming_normal_(classifier.weight)
        return classifier

    def grow(self, new_classes: int) -> None:
        """Append a step's classifier, randomly initialised from the global generator.

        Raises:
            NetworkError: without a new class.
        """
        if new_classes < 1:
            raise NetworkError(f"a step needs at least one new class, got {new_classes}")
        first = not self.classes_per_step
        reference = next(self.backbone.parameters())
        classifier = self._classifier(new_classes + (1 if first and self.background else 0))
        self.cls.append(classifier.to(reference))
        self.classes_per_step.append(new_classes)

    def forward(self, images: Tensor) -> PixelOutputs:
        """Images (B, 3, H, W) to :class:`PixelOutputs` with logits at their size."""
        features = self.backbone(images)
        x = self.aspp(features.body)
        first = x.detach() if self.auxiliary else x
        coarse = torch.cat([self.cls[0](first), *(classifier(x) for classifier in self.cls[1:])], dim=1)
        coarse = at_least_single(coarse)
        height, width = images.shape[2:]
        return UpsampledOutputs(
            pre_logits=x, body=features.body, coarse_logits=coarse, stages=features.stages, size=(height, width)
        )


class DeepLabV3(StepwiseNetwork):
    """ResNet backbone, head and one classifier per step, in the variants of the released methods."""

    def __init__(
        self,
        classes_per_step: Sequence[int],
        *,
        backbone: str = "resnet101",
        backbone_norm: BackboneNorm = "own",
        head: Literal["mib", "dkd"] = "mib",
        output_stride: int = 16,
        activation: Activation = "leaky-relu",
        head_activation: Activation | None = None,
        dilate_first_block: bool = True,
        backbone_momentum: Momentum = 0.1,
        head_momentum: Momentum = 0.1,
        head_initialisation: Initialisation = "xavier",
        channels: Channels = 256,
        rates: Dilations | None = None,
        pooling_window: Count = 32,
        dropout: Probability = 0.1,
        background: bool = True,
        auxiliary: bool = False,
        keep_stages: bool = False,
    ) -> None:
        """The defaults are the network of MiB and PLOP.

        Args:
            classes_per_step: number of classes learnt in each step so far, the background not counted.
            backbone: a name of :data:`model.networks.backbones.resnet.VARIANTS`, or ``timm/`` and a name of timm.
            backbone_norm: ``own`` as it is built, or ``frozen-bn``: constants, for pre-trained backbones of timm.
            head: ``mib`` (MiB, PLOP, SDR) or ``dkd`` (DKD, STAR).
            output_stride: image size over feature size.
            activation: of the head and of a ResNet; ``leaky-relu`` goes with weights trained with InPlaceABN.
            head_activation: of the head, None for the backbone's; ``identity`` is SDR's linear head.
            dilate_first_block: see :class:`model.networks.backbones.resnet.ResNet`.
            backbone_momentum: of the backbone's running statistics (0.01 in DKD and STAR).
            head_momentum: of the head's running statistics.
            head_initialisation: of the ``mib`` head; ``pytorch`` for SDR.
            channels: of the head and of what the classifiers see.
            rates: dilations of the head, None for 6, 12, 18 at stride 16 (scaled with the stride).
            pooling_window: of the ``mib`` head in evaluation, in cells.
            dropout: of the ``dkd`` head.
            background: the first classifier begins with a background channel.
            auxiliary: a one-channel classifier comes before the first step's (DKD); features do not learn through it.
            keep_stages: outputs also carry the stages of the backbone, a ResNet's before their last activation.

        Raises:
            NetworkError: for an unknown backbone or head, or a step without classes.
        """
        if background and auxiliary:
            raise NetworkError("a network has either a background channel or an auxiliary classifier, not both")
        body, width = build_backbone(
            backbone,
            output_stride=output_stride,
            act=activation,
            dilate_first_block=dilate_first_block,
            momentum=backbone_momentum,
            keep_stages=keep_stages,
            norm=backbone_norm,
        )
        head_rates = dilations(rates, output_stride)
        inner = head_activation or activation
        aspp: MibHead | DkdHead
        if head == "mib":
            aspp = MibHead(
                width,
                channels,
                rates=head_rates,
                act=inner,
                momentum=head_momentum,
                pooling_window=pooling_window,
                initialisation=head_initialisation,
            )
        elif head == "dkd":
            aspp = DkdHead(
                width,
                channels,
                rates=head_rates,
                act=inner,
                momentum=head_momentum,
                dropout=dropout,
            )
        else:
            raise NetworkError(f"unknown head '{head}', expected mib or dkd")
        super().__init__(
            body,
            aspp,
            classes_per_step,
            channels=channels,
            background=background,
            auxiliary=auxiliary,
            kaiming_classifiers=head == "dkd",
        )
