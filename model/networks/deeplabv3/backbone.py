"""The backbone of a DeepLab network by its name in a recipe: a ResNet of Segue's own, or a model of timm."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Literal

from torch import nn

from model.networks.backbones.names import timm_model
from model.networks.backbones.resnet import VARIANTS, ResNet, Variant
from model.networks.layers import Activation

BackboneNorm = Literal["own", "frozen-bn"]
"""Normalisation of the backbone: as it is built, or constants that nothing trains."""


class NetworkError(ValueError):
    """Arguments that do not describe a network."""


def variant(backbone: str) -> Variant:
    """Depth and width of a ResNet.

    Raises:
        NetworkError: for an unknown name.
    """
    if backbone not in VARIANTS:
        raise NetworkError(f"unknown backbone '{backbone}', expected one of {', '.join(VARIANTS)}, or timm/…")
    return VARIANTS[backbone]


def dilations(rates: Sequence[int] | None, output_stride: int) -> tuple[int, ...]:
    """Dilations of a head: those given, or 6, 12, 18 at stride 16, scaled with the stride."""
    return tuple(rates) if rates is not None else tuple(rate * 16 // output_stride for rate in (6, 12, 18))


def build_backbone(
    name: str,
    *,
    output_stride: int,
    norm: BackboneNorm = "own",
    act: Activation = "relu",
    dilate_first_block: bool = False,
    momentum: float = 0.1,
    keep_stages: bool = False,
) -> tuple[nn.Module, int]:
    """A backbone, and the channels of its last map.

    Args:
        name: of :data:`model.networks.backbones.resnet.VARIANTS`, or ``timm/`` and a name of timm.
        output_stride: input size over output size.
        norm: ``frozen-bn`` is for backbones of timm.
        act, dilate_first_block: of a ResNet; a model of timm has its own.
        momentum: of the running statistics.
        keep_stages: also return the outputs of the stages.

    Raises:
        NetworkError: for an unknown name.
        ValueError: for a model of timm that cannot be what is asked for.
    """
    if model := timm_model(name):
        # Imported here, or every network would depend on timm and on the code around it.
        trunk = import_module("model.networks.backbones.timm").TimmBackbone(
            model, output_stride=output_stride, norm=norm, momentum=momentum, keep_stages=keep_stages
        )
        return trunk, trunk.out_channels
    if norm != "own":
        raise NetworkError(f"backbone_norm '{norm}' is for backbones of timm; '{name}' has batch statistics")
    body = ResNet(
        variant(name),
        output_stride=output_stride,
        act=act,
        dilate_first_block=dilate_first_block,
        momentum=momentum,
        keep_stages=keep_stages,
    )
    return body, body.out_channels
