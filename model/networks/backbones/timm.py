"""Backbones of the library timm, for both network families.

Wightman, "PyTorch Image Models", https://github.com/huggingface/pytorch-image-models. Channels, strides, the layout of maps and
the statistics that images are normalised with are timm's own. Every model that gives intermediate features is admitted: networks
of stages (EfficientNet, MobileNet, ResNet, ConvNeXt, Swin, …), and plain transformers (ViT, DINO, …), whose maps have one stride.

Parameters keep timm's names, so that published weights load by name (:mod:`model.networks.backbones.timm_weights`).
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

import timm
import torch
from timm.layers import LayerNorm2d, convert_sync_batchnorm
from timm.utils.model import freeze_batch_norm_2d
from torch import Tensor, nn

from model.data.loading.normalisation import IMAGENET_MEAN, IMAGENET_STD
from model.networks.backbones.detectron_resnet import STAGES
from model.networks.backbones.resnet import Features
from model.networks.layers import is_normalisation

Form = Literal["deeplab", "pyramid"]
"""What a backbone is for: one map at the output stride, or four maps of strides 4, 8, 16 and 32."""

PYRAMID_STRIDES = (4, 8, 16, 32)
PYRAMID_CHANNELS = 256
"""Of the simple feature pyramid on a plain transformer, as in ViTDet."""
MOST_STAGES = 4
"""DeepLab's backbone returns at most so many maps, the last ones."""


class TimmError(ValueError):
    """A model that does not exist, gives no features, or cannot be what a recipe asks for."""


@dataclass(frozen=True)
class Facts:
    """What timm says about a model as it would be built.

    Attributes:
        indices: of its feature maps.
        channels, strides: of these maps.
        batch_norm: whether it has batch normalisation.
        mean, std: what images are normalised with.
        raw: whether maps leave the stages without normalisation and need one each, as Swin's do (Liu et al., 2021).
    """

    indices: tuple[int, ...]
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    batch_norm: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]
    raw: bool = False

    @property
    def plain(self) -> bool:
        """Whether all maps have one stride, as those of a plain transformer."""
        return len(set(self.strides)) == 1


def create(name: str, output_stride: int | None = None, indices: Sequence[int] | None = None) -> Any:
    """A model that gives feature maps, with random weights; nothing is downloaded.

    Args:
        name: as in ``timm.list_models()``, with or without the tag of published weights.
        output_stride: None for the model's own.
        indices: of the maps that are wanted, None for timm's choice; what comes after the last one is left out.

    Raises:
        TimmError: for an unknown name, one without features, or a stride that the architecture cannot have.
    """
    if not timm.is_model(name):
        near = difflib.get_close_matches(name.split(".")[0], timm.list_models(), n=3)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "timm.list_models() lists all"
        raise TimmError(f"timm {timm.__version__} has no model '{name}'; {hint}")
    wanted: dict[str, Any] = {"features_only": True, "feature_cls": "getter", "pretrained": False}
    if indices is not None:
        wanted["out_indices"] = list(indices)
    if output_stride is not None:
        wanted["output_stride"] = output_stride
    model: Any = None
    any_size: tuple[dict[str, Any], ...] = (
        {"dynamic_img_size": True, "dynamic_img_pad": True},
        {"dynamic_img_size": True},
        {},
    )
    for options in any_size:
        try:
            model = timm.create_model(name, **wanted, **options)
            break
        except (TypeError, AssertionError) as error:  # the constructor does not have the argument
            problem = error
        except (RuntimeError, AttributeError, ValueError) as error:
            raise TimmError(f"timm's '{name}' gives no feature maps ({error})") from None
    if model is None:
        reason = (
            f"cannot have output stride {output_stride}"
            if output_stride is not None
            else f"gives no feature maps ({problem})"
        )
        raise TimmError(f"timm's '{name}' {reason}")
    if not hasattr(model.model, "forward_intermediates"):
        raise TimmError(f"timm's '{name}' gives no feature maps")
    if model.model.pretrained_cfg.get("fixed_input_size") and not options:
        raise TimmError(f"timm's '{name}' takes images of one size only, but crops and photographs have many")
    return model


@cache
def facts(name: str, output_stride: int | None = None) -> Facts:
    """Look at a model without making its weights.

    Raises:
        TimmError: as :func:`create`.
    """
    with torch.device("meta"):
        model = create(name, output_stride)
        info = model.feature_info
        if len(set(info.reduction())) == 1:  # four blocks at equal distances, instead of timm's last three
            depth = len(info.info)
            chosen = tuple(depth * (part + 1) // MOST_STAGES - 1 for part in range(min(depth, MOST_STAGES)))
            model = create(name, output_stride, chosen)
            info = model.feature_info
    config = model.model.pretrained_cfg
    return Facts(
        tuple(model.out_indices),
        tuple(info.channels()),
        tuple(info.reduction()),
        any(is_normalisation(module) for module in model.modules()),
        tuple(config.get("mean", IMAGENET_MEAN)),
        tuple(config.get("std", IMAGENET_STD)),
        getattr(model.model, "output_fmt", "NCHW") == "NHWC",
    )


def deeplab_facts(name: str, output_stride: int) -> Facts:
    """The model whose last map has a stride, and its last maps.

    Raises:
        TimmError: as :func:`create`, or if the model has another stride that cannot be changed.
    """
    found = facts(name)
    if found.strides[-1] != output_stride:
        own = found.strides[-1]
        try:
            found = facts(name, output_stride)
        except TimmError as error:
            raise TimmError(f"{error}: its stride is {own}, so write output_stride: {own}") from None
        if found.strides[-1] != output_stride:
            raise TimmError(f"timm's '{name}' cannot have output stride {output_stride}, its stride is {own}")
    last = slice(-MOST_STAGES, None)
    return replace(found, indices=found.indices[last], channels=found.channels[last], strides=found.strides[last])


def pyramid_facts(name: str) -> Facts:
    """The model with a map for each stride of a pyramid, or a plain one of stride 16.

    Raises:
        TimmError: as :func:`create`, or if the model has no such maps.
    """
    found = facts(name)
    if found.plain:
        if found.strides[-1] != 16:
            raise TimmError(
                f"timm's '{name}' has maps of stride {found.strides[-1]}; a feature pyramid is made of a plain model of "
                "stride 16 only"
            )
        return found
    places = {stride: place for place, stride in enumerate(found.strides)}  # the last one of each stride
    if absent := [stride for stride in PYRAMID_STRIDES if stride not in places]:
        raise TimmError(
            f"timm's '{name}' has no map of stride {absent[0]}; Mask2Former needs strides "
            f"{', '.join(map(str, PYRAMID_STRIDES))}, its own are {', '.join(map(str, found.strides))}"
        )
    kept = [places[stride] for stride in PYRAMID_STRIDES]
    return replace(
        found,
        indices=tuple(found.indices[place] for place in kept),
        channels=tuple(found.channels[place] for place in kept),
        strides=PYRAMID_STRIDES,
    )


def check(name: str, form: Form, arguments: Mapping[str, Any]) -> Facts:
    """Refuse a model that cannot be what a recipe asks for; no weights are made.

    Args:
        name: of the model in timm.
        form: what it is for.
        arguments: of the network, defaults included: ``output_stride`` and ``backbone_norm``, or ``norm``.

    Raises:
        TimmError: with the reason.
    """
    found = deeplab_facts(name, arguments["output_stride"]) if form == "deeplab" else pyramid_facts(name)
    key = "backbone_norm" if form == "deeplab" else "norm"
    check_norm(name, found, key, arguments[key])
    return found


def check_norm(name: str, found: Facts, key: str, norm: str) -> None:
    """Refuse another normalisation than a model can have.

    Raises:
        TimmError: naming the key and what it may be.
    """
    if norm == "own":
        return
    if norm == "gn":
        raise TimmError(
            f"{key} is 'gn', but the normalisation of timm's '{name}' cannot be exchanged: write {key}: own"
        )
    if not found.batch_norm:
        raise TimmError(f"{key} is '{norm}', but timm's '{name}' has no batch normalisation: write {key}: own")


class TimmTrunk(nn.Module):
    """A model of timm, and images as it expects them.

    Attributes:
        name: of the model in timm.
        model: without what comes after the last map.
        norm0, norm1, …: layer normalisation of each map of a Swin, under the names of Mask2Former's checkpoints.
        facts: what timm says about it.
    """

    mean_and_std: Tensor

    def __init__(self, name: str, found: Facts, output_stride: int | None, norm: str, momentum: float | None) -> None:
        """
        Args:
            name: of the model in timm.
            found: of :func:`deeplab_facts` or :func:`pyramid_facts`.
            output_stride: None for the model's own.
            norm: ``own`` as timm builds it, ``frozen-bn`` (constants), ``bn`` or ``sync-bn``.
            momentum: of the running statistics, None for timm's.

        Raises:
            TimmError: for a normalisation that the model cannot have.
        """
        super().__init__()
        check_norm(name, found, "norm", norm)
        self.name, self.facts = name, found
        own_stride = facts(name).strides[-1]
        wanted = create(name, output_stride if output_stride != own_stride else None, found.indices)
        self.indices = list(wanted.out_indices)
        model: Any = wanted.model
        for module in model.modules():
            if momentum is not None and is_normalisation(module):
                module.momentum = momentum
        if norm == "frozen-bn":
            model = freeze_batch_norm_2d(model)
        elif norm == "sync-bn":
            model = convert_sync_batchnorm(model)
        self.model = model
        for number, channels in enumerate(found.channels if found.raw else ()):
            self.add_module(f"norm{number}", LayerNorm2d(channels, eps=1e-5))
        ours, theirs = (torch.tensor(v) for v in ((IMAGENET_MEAN, IMAGENET_STD), (found.mean, found.std)))
        shift, scale = (ours[0] - theirs[0]) / theirs[1], ours[1] / theirs[1]
        self.register_buffer("mean_and_std", torch.stack([shift, scale]), persistent=False)
        self.converts = (found.mean, found.std) != (IMAGENET_MEAN, IMAGENET_STD)

    def maps(self, images: Tensor) -> list[Tensor]:
        """Images (B, 3, H, W), normalised as ImageNet's, to maps (B, C, H/s, W/s), finest first."""
        if self.converts:
            shift, scale = self.mean_and_std.to(images.dtype)[:, None, :, None, None]
            images = images * scale + shift
        found: list[Tensor] = self.model.forward_intermediates(
            images, indices=self.indices, output_fmt="NCHW", intermediates_only=True
        )
        if self.facts.raw:
            return [self.get_submodule(f"norm{number}")(one) for number, one in enumerate(found)]
        return found


class TimmBackbone(TimmTrunk):
    """One map at the output stride for DeepLab; the stages for PLOP are the last maps, as timm gives them."""

    def __init__(
        self, name: str, *, output_stride: int, norm: str = "own", momentum: float = 0.1, keep_stages: bool = False
    ) -> None:
        """
        Args:
            name: of the model in timm.
            output_stride: input size over output size.
            norm: see :class:`TimmTrunk`.
            momentum: of the running statistics.
            keep_stages: also return the last maps, four at most.

        Raises:
            TimmError: for a model, stride or normalisation that cannot be had.
        """
        super().__init__(name, deeplab_facts(name, output_stride), output_stride, norm, momentum)
        self.out_channels = self.facts.channels[-1]
        self.keep_stages = keep_stages

    def forward(self, images: Tensor) -> Features:
        """Images (B, 3, H, W) to features at 1/output stride of their size; how sizes are rounded is the model's."""
        maps = self.maps(images)
        return Features(maps[-1], tuple(maps) if self.keep_stages else ())


class TimmPyramid(TimmTrunk):
    """Four maps for Mask2Former; of a plain transformer through a simple feature pyramid.

    Attributes:
        channels: of the four maps, finest first.
    """

    def __init__(self, name: str, norm: str = "own") -> None:
        """
        Args:
            name: of the model in timm.
            norm: see :class:`TimmTrunk`.

        Raises:
            TimmError: for a model or normalisation that cannot be had.
        """
        found = pyramid_facts(name)
        super().__init__(name, found, None, norm, None)
        self.pyramid = SimplePyramid(found.channels[-1], PYRAMID_CHANNELS) if found.plain else None
        self.channels = (PYRAMID_CHANNELS,) * len(STAGES) if found.plain else found.channels

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) normalised images to maps (B, C, H/s, W/s) named after the stages, s = 4, 8, 16, 32."""
        maps: Sequence[Tensor] = self.maps(images)
        if self.pyramid is not None:
            maps = self.pyramid(maps[-1])
        return dict(zip(STAGES, maps, strict=True))


class SimplePyramid(nn.Module):
    """Four maps from the last one of a plain transformer.

    Li, Mao, Girshick & He, "Exploring Plain Vision Transformer Backbones for Object Detection" (ViTDet), ECCV 2022, section 3:
    transposed convolutions for strides 4 and 8, pooling for stride 32, then 1x1 and 3x3 convolutions with layer normalisation.
    """

    def __init__(self, inputs: int, channels: int) -> None:
        """
        Args:
            inputs: channels of the map of stride 16.
            channels: of the four maps.
        """
        super().__init__()
        half, quarter = inputs // 2, inputs // 4
        self.scales = nn.ModuleList(
            [
                nn.Sequential(
                    nn.ConvTranspose2d(inputs, half, 2, 2),
                    LayerNorm2d(half),
                    nn.GELU(),
                    nn.ConvTranspose2d(half, quarter, 2, 2),
                ),
                nn.ConvTranspose2d(inputs, half, 2, 2),
                nn.Identity(),
                nn.MaxPool2d(2),
            ]
        )
        self.outputs = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, channels, 1, bias=False),
                LayerNorm2d(channels),
                nn.Conv2d(channels, channels, 3, padding=1, bias=False),
                LayerNorm2d(channels),
            )
            for width in (quarter, half, inputs, inputs)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, C, H/16, W/16) to maps of strides 4, 8, 16 and 32."""
        return [output(scale(x)) for scale, output in zip(self.scales, self.outputs, strict=True)]
