"""Residual networks as the backbone of dense prediction, with the names of torchvision's state dicts.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016. Strided convolutions are replaced by dilated ones
from a given output stride on (Chen et al., "Rethinking Atrous Convolution", 2017), so the map keeps its size while the
field of view grows. The stride of a bottleneck sits in its 3x3 convolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from model.networks.layers import Activation, activation, is_normalisation

OUTPUT_STRIDES = (4, 8, 16, 32)


@dataclass(frozen=True)
class Variant:
    """Depth and width of a network.

    Attributes:
        blocks: number of residual blocks of the four stages.
        bottleneck: three convolutions per block, the last one four times as wide; otherwise two.
        width: channels of the stem, doubled from stage to stage.
    """

    blocks: tuple[int, int, int, int]
    bottleneck: bool
    width: int = 64


VARIANTS = {
    "tiny": Variant((1, 1, 1, 1), bottleneck=False, width=16),
    "resnet18": Variant((2, 2, 2, 2), bottleneck=False),
    "resnet34": Variant((3, 4, 6, 3), bottleneck=False),
    "resnet50": Variant((3, 4, 6, 3), bottleneck=True),
    "resnet101": Variant((3, 4, 23, 3), bottleneck=True),
}
"""``tiny`` is for CPUs: no published weights, 128 output channels."""


@dataclass(frozen=True)
class Features:
    """The output of the backbone.

    Attributes:
        body: (B, C, h, w), the activated output of the last stage.
        stages: outputs of the four stages if requested, else empty; before their last activation unless the backbone's
            ``keep_activated`` is set.
    """

    body: Tensor
    stages: tuple[Tensor, ...] = ()


class Block(nn.Module):
    """A residual block: ``activation(convolutions(x) + shortcut(x))``."""

    def __init__(
        self,
        channels: int,
        width: int,
        *,
        bottleneck: bool,
        stride: int,
        dilation: int,
        act: Activation,
        momentum: float,
        keep_sum: bool = False,
    ) -> None:
        """
        Args:
            channels: of the input.
            width: of the inner convolutions.
            bottleneck: see :class:`Variant`; the output has ``4 * width`` channels, otherwise ``width``.
            stride: of the 3x3 convolution and of the shortcut.
            dilation: of the 3x3 convolutions.
            act: activation between the convolutions and after the sum.
            momentum: of the running statistics.
            keep_sum: do not overwrite the sum, which is needed besides its activation.
        """
        super().__init__()
        self.out_channels = 4 * width if bottleneck else width

        def conv(inputs: int, outputs: int, kernel: int, step: int = 1) -> nn.Conv2d:
            spread = dilation if kernel == 3 else 1
            return nn.Conv2d(inputs, outputs, kernel, step, spread * (kernel // 2), spread, bias=False)

        def norm(size: int) -> nn.BatchNorm2d:
            return nn.BatchNorm2d(size, momentum=momentum)

        if bottleneck:
            self.conv1, self.bn1 = conv(channels, width, 1), norm(width)
            self.conv2, self.bn2 = conv(width, width, 3, stride), norm(width)
            self.conv3, self.bn3 = conv(width, self.out_channels, 1), norm(self.out_channels)
        else:
            self.conv1, self.bn1 = conv(channels, width, 3, stride), norm(width)
            self.conv2, self.bn2 = conv(width, width, 3), norm(width)
        self.bottleneck = bottleneck
        self.inner_activation = activation(act)
        self.activation = activation(act, inplace=not keep_sum)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or channels != self.out_channels:
            self.downsample = nn.Sequential(conv(channels, self.out_channels, 1, stride), norm(self.out_channels))

    def sum(self, x: Tensor) -> Tensor:
        """The residual sum before its activation."""
        out = self.bn2(self.conv2(self.inner_activation(self.bn1(self.conv1(x)))))
        if self.bottleneck:
            out = self.bn3(self.conv3(self.inner_activation(out)))
        return out + (x if self.downsample is None else self.downsample(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.sum(x))


def strides_and_dilations(output_stride: int, dilate_first_block: bool) -> list[tuple[int, int, int]]:
    """Stride, dilation of the first block and dilation of the others, of the four stages.

    Raises:
        ValueError: for an output stride that the four stages cannot produce.
    """
    if output_stride not in OUTPUT_STRIDES:
        raise ValueError(f"output stride {output_stride} is not possible, expected one of {OUTPUT_STRIDES}")
    plan = [(1, 1, 1)]
    reached, dilation = 4, 1
    for _ in range(3):
        if reached < output_stride:
            reached *= 2
            plan.append((2, dilation, dilation))
        else:
            before, dilation = dilation, dilation * 2
            plan.append((1, dilation if dilate_first_block else before, dilation))
    return plan


class ResNet(nn.Module):
    """Backbone without the classification layer; keys are torchvision's (``conv1``, ``bn1``, ``layer1`` …).

    Attributes:
        block: class of the blocks.
        keep_activated: whether stages are kept after their last activation instead of before it.
    """

    block: type[Block] = Block
    keep_activated = False

    def __init__(
        self,
        variant: Variant,
        *,
        output_stride: int = 16,
        act: Activation = "relu",
        stem_act: Activation | None = None,
        dilate_first_block: bool = False,
        momentum: float = 0.1,
        keep_stages: bool = False,
    ) -> None:
        """
        Args:
            variant: depth and width, see :data:`VARIANTS`.
            output_stride: input size over output size: 4, 8, 16 or 32.
            act: ``relu``, or ``leaky-relu`` for networks trained with InPlaceABN.
            stem_act: activation before the first stage; None for ``act``.
            dilate_first_block: the first block of a stage that lost its stride has the dilation of the others (MiB,
                PLOP) instead of half of it (torchvision, DKD, SSUL).
            momentum: of the running statistics.
            keep_stages: also return the outputs of the four stages, see ``keep_activated``.
        """
        super().__init__()
        width = variant.width
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width, momentum=momentum)
        self.activation = activation(stem_act or act)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels = width
        for index, (stride, first, others) in enumerate(strides_and_dilations(output_stride, dilate_first_block)):
            blocks: list[nn.Module] = []
            for number in range(variant.blocks[index]):
                block = self.block(
                    channels,
                    width * 2**index,
                    bottleneck=variant.bottleneck,
                    stride=stride if number == 0 else 1,
                    dilation=first if number == 0 else others,
                    act=act,
                    momentum=momentum,
                    keep_sum=keep_stages and not self.keep_activated and number == variant.blocks[index] - 1,
                )
                channels = block.out_channels
                blocks.append(block)
            self.add_module(f"layer{index + 1}", nn.Sequential(*blocks))
        self.out_channels = channels
        self.keep_stages = keep_stages
        self.reset_parameters()

    @property
    def stages(self) -> Sequence[nn.Sequential]:
        """The four stages."""
        return [self.get_submodule(f"layer{index}") for index in (1, 2, 3, 4)]  # type: ignore[misc]

    def reset_parameters(self) -> None:
        """Kaiming-normal convolutions (fan-out) and unit normalisation, for training without pre-trained weights."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif is_normalisation(module):
                nn.init.ones_(module.weight)  # type: ignore[arg-type]
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Features:
        """Images (B, 3, H, W) to features at ``ceil`` of 1/output stride of their size."""
        x = self.maxpool(self.activation(self.bn1(self.conv1(images))))
        kept: list[Tensor] = []
        for stage in self.stages:
            *blocks, last = stage
            for block in blocks:
                x = block(x)
            before = last.sum(x)  # type: ignore[operator]
            x = last.activation(before)  # type: ignore[operator]
            if self.keep_stages:
                kept.append(x if self.keep_activated else before)
        return Features(x, tuple(kept))
