"""ResNet as a feature pyramid: four maps of stride 4, 8, 16 and 32, with the parameter names of detectron2's model files.

He et al., "Deep Residual Learning", CVPR 2016. The stride of a stage sits in the 3×3 convolution ("torchvision style"), so
ImageNet weights of torchvision and of the public Mask2Former checkpoints fit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

from torch import Tensor, nn

from model.networks.backbones.frozen_norm import FrozenBatchNorm2d

NormName = Literal["frozen-bn", "bn", "sync-bn", "gn", "own"]
"""``own`` is for backbones of timm: as timm builds them."""

STAGES = ("res2", "res3", "res4", "res5")
"""Names of the outputs, finest first."""


def _group_norm(channels: int) -> nn.Module:
    return nn.GroupNorm(min(32, channels // 4), channels)


NORMS: dict[str, Callable[[int], nn.Module]] = {
    "frozen-bn": FrozenBatchNorm2d,
    "bn": nn.BatchNorm2d,
    "sync-bn": nn.SyncBatchNorm,
    "gn": _group_norm,
}


class ConvNorm(nn.Conv2d):
    """Convolution without bias, followed by its normalisation (parameters under ``.norm``).

    A frozen normalisation scales the weights and is the bias: its maps are then not read and written once more, forwards and
    backwards.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, norm: Callable[[int], nn.Module], stride: int = 1
    ) -> None:
        super().__init__(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
        self.norm = norm(outputs)

    def forward(self, input: Tensor) -> Tensor:
        if isinstance(self.norm, FrozenBatchNorm2d):
            scale, shift = self.norm.affine
            return self._conv_forward(input, self.weight * scale.view(-1, 1, 1, 1), shift)
        return self.norm(super().forward(input))


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut (ResNet-18 and -34)."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.shortcut = ConvNorm(inputs, width, 1, norm, stride) if stride != 1 or inputs != width else None
        self.conv1 = ConvNorm(inputs, width, 3, norm, stride)
        self.conv2 = ConvNorm(width, width, 3, norm)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.shortcut is None else self.shortcut(x)
        return (self.conv2(self.conv1(x).relu_()) + shortcut).relu_()


class Bottleneck(nn.Module):
    """1×1 down, 3×3, 1×1 up by four, and a shortcut (ResNet-50 and deeper)."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.shortcut = ConvNorm(inputs, outputs, 1, norm, stride) if stride != 1 or inputs != outputs else None
        self.conv1 = ConvNorm(inputs, width, 1, norm)
        self.conv2 = ConvNorm(width, width, 3, norm, stride)
        self.conv3 = ConvNorm(width, outputs, 1, norm)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.shortcut is None else self.shortcut(x)
        x = self.conv2(self.conv1(x).relu_()).relu_()
        return (self.conv3(x) + shortcut).relu_()


class Stem(nn.Module):
    """7×7 convolution and max pooling: an image to a map of stride 4."""

    def __init__(self, outputs: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.conv1 = ConvNorm(3, outputs, 7, norm, stride=2)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        return self.pool(self.conv1(images).relu_())


class ResNet(nn.Module):
    """The four stages of a residual network.

    Args:
        block: :class:`BasicBlock` or :class:`Bottleneck`.
        blocks: number of blocks in each of the four stages.
        norm: ``frozen-bn`` (constants: statistics and scale come from ImageNet weights), ``bn``, ``sync-bn`` or ``gn``.
        width: channels of the stem and of the first stage's 3×3 convolutions; doubles from stage to stage.

    Attributes:
        channels: of the four outputs, finest first.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        blocks: Sequence[int],
        norm: NormName,
        width: int = 64,
    ) -> None:
        super().__init__()
        if norm not in NORMS:
            raise ValueError(f"unknown normalisation '{norm}'; choose one of {', '.join(NORMS)}")
        self.stem = Stem(width, NORMS[norm])
        inputs = width
        channels = []
        for index, (name, count) in enumerate(zip(STAGES, blocks, strict=True)):
            stage_width = width * 2**index
            layers = []
            for position in range(count):
                stride = 2 if index > 0 and position == 0 else 1
                layers.append(block(inputs, stage_width, stride, NORMS[norm]))
                inputs = stage_width * block.expansion
            self.add_module(name, nn.Sequential(*layers))
            channels.append(inputs)
        self.channels = tuple(channels)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) normalised images to maps (B, C, H/s, W/s) named after the stages, s = 4, 8, 16, 32."""
        x = self.stem(images)
        features = {}
        for name in STAGES:
            x = self.get_submodule(name)(x)
            features[name] = x
        return features


RESNETS: dict[str, Callable[[NormName], ResNet]] = {
    "tiny": partial(ResNet, BasicBlock, (1, 1, 1, 1), width=16),
    "resnet18": partial(ResNet, BasicBlock, (2, 2, 2, 2)),
    "resnet34": partial(ResNet, BasicBlock, (3, 4, 6, 3)),
    "resnet50": partial(ResNet, Bottleneck, (3, 4, 6, 3)),
    "resnet101": partial(ResNet, Bottleneck, (3, 4, 23, 3)),
}
"""Constructors by the recipe's name of the backbone; ``tiny`` is for the CPU demonstration."""
