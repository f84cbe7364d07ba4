"""Backbones of timm: maps of the promised strides and channels, normalisation, and what is refused before anything is built."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from model.data.loading.normalisation import IMAGENET_MEAN, IMAGENET_STD
from model.networks.backbones.timm import SimplePyramid, TimmBackbone, TimmPyramid
from model.networks.layers import normalisations
from model.networks.registry import (
    UnknownNetworkError,
    UnsuitableNetworkError,
    build,
    check_arguments,
    check_batch_norm,
)

LITE, RESNET, CONVNEXT = "tf_efficientnet_lite0", "test_resnet", "test_convnext"
SWIN, VIT, MOBILENET = "swin_tiny_patch4_window7_224", "test_vit", "mobilenetv3_small_050"
SMALL = {"channels": 8, "rates": [1, 2, 3]}
MASK = {"channels": 32, "queries": 4, "encoder_layers": 1, "decoder_layers": 1, "points": 16}


def image(height: int = 64, width: int = 96) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("name", "stride"), [(LITE, 16), (LITE, 8), (RESNET, 16), (RESNET, 32), (CONVNEXT, 16), (MOBILENET, 32), (VIT, 16)]
)
def test_deeplab_gets_a_map_at_the_output_stride(name: str, stride: int) -> None:
    backbone = TimmBackbone(name, output_stride=stride, keep_stages=True).eval()
    features = backbone(image())
    assert features.body.shape == (1, backbone.out_channels, 64 // stride, 96 // stride)
    assert 1 < len(features.stages) <= 4 and torch.equal(features.stages[-1], features.body)
    assert TimmBackbone(name, output_stride=stride)(image()).stages == ()


@pytest.mark.parametrize("name", [LITE, RESNET, CONVNEXT, MOBILENET, SWIN, VIT])
def test_mask2former_gets_four_maps(name: str) -> None:
    backbone = TimmPyramid(name).eval()
    maps = backbone(image())
    assert [tuple(m.shape[1:]) for m in maps.values()] == [
        (channels, 64 // stride, 96 // stride)
        for channels, stride in zip(backbone.channels, (4, 8, 16, 32), strict=True)
    ]


def test_maps_are_those_of_timms_own_network() -> None:
    """Dilated or not, and with channels last inside (Swin) as well as first."""
    for name, options in ((LITE, {"output_stride": 16}), (SWIN, {"strict_img_size": False})):
        theirs = timm.create_model(name, features_only=True, **options).eval()
        ours = (TimmBackbone(name, output_stride=16, keep_stages=True) if name == LITE else TimmPyramid(name)).eval()
        flat = {key.replace("_", "."): value for key, value in theirs.state_dict().items()}
        own = ours.model.state_dict()
        ours.model.load_state_dict({key: flat[key.replace("_", ".")] for key in own})
        ours.converts = False
        x = image(64, 64)
        found = ours.maps(x)
        expected = [
            m if m.shape[1] == c else m.permute(0, 3, 1, 2)
            for m, c in zip(theirs(x)[-4:], (f.shape[1] for f in found), strict=True)
        ]
        for number, (one, other) in enumerate(zip(found, expected, strict=True)):
            if name == SWIN:  # whose maps are normalised, as Mask2Former has it
                other = ours.get_submodule(f"norm{number}")(other)
            torch.testing.assert_close(one, other)


def test_images_are_normalised_as_the_model_expects_them() -> None:
    """The loader takes ImageNet's statistics out, the model of EfficientNet-Lite was trained on values from -1 to 1."""
    seen: list[Tensor] = []
    backbone = TimmBackbone(LITE, output_stride=16).eval()
    backbone.model.conv_stem.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    raw = image()
    mean, std = (torch.tensor(v)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
    backbone((raw - mean) / std)
    torch.testing.assert_close(seen[0], (raw - 0.5) / 0.5)
    assert not TimmBackbone("resnet18", output_stride=32).converts


def test_frozen_batch_normalisation_is_constant_in_training() -> None:
    backbone = TimmBackbone(LITE, output_stride=16, norm="frozen-bn").train()
    assert not normalisations(backbone)
    assert any(type(m).__name__.startswith("FrozenBatchNorm") for m in backbone.modules())
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    backbone(image())
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())
    assert not any("bn" in name for name, _ in backbone.named_parameters())


def test_trained_batch_normalisation_has_the_recipes_momentum() -> None:
    backbone = TimmBackbone(LITE, output_stride=16, momentum=0.03).train()
    assert {m.momentum for m in normalisations(backbone)} == {0.03}
    before = backbone.model.bn1.running_mean.clone()
    backbone(image())
    assert not torch.equal(before, backbone.model.bn1.running_mean)


def test_the_pyramid_of_a_plain_transformer_keeps_what_is_where() -> None:
    pyramid = SimplePyramid(16, 8)
    x = torch.zeros(1, 16, 4, 6, requires_grad=True)
    for stride, one in zip((4, 8, 16, 32), pyramid(x), strict=True):
        assert one.shape == (1, 8, 4 * 16 // stride, 6 * 16 // stride)


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("deeplabv3", {"backbone": "timm/resnet5O"}, r"has no model 'resnet5O'; did you mean 'resnet5"),
        ("deeplabv3", {"backbone": "timm/xyzzy"}, r"has no model 'xyzzy'; timm\.list_models\(\) lists all"),
        ("deeplabv3", {"backbone": f"timm/{SWIN}"}, "cannot have output stride 16: .*write output_stride: 32"),
        (
            "deeplabv3",
            {"backbone": f"timm/{CONVNEXT}", "backbone_norm": "frozen-bn"},
            "has no batch normalisation: write backbone_norm: own",
        ),
        ("deeplabv3", {"backbone": "resnet50", "backbone_norm": "frozen-bn"}, "backbone_norm is 'frozen-bn', .*timm"),
        ("deeplabv3-rcil", {"backbone": f"timm/{RESNET}"}, "'deeplabv3-rcil' is made of a ResNet's convolutions"),
        (
            "mask2former",
            {"backbone": f"timm/{SWIN}"},
            "norm is 'frozen-bn', .*has no batch normalisation: write norm: own",
        ),
        ("mask2former", {"backbone": f"timm/{LITE}", "norm": "gn"}, "norm is 'gn', .* cannot be exchanged"),
        ("mask2former", {"backbone": "timm/vit_small_patch14_dinov2", "norm": "own"}, "maps of stride 14"),
        ("mask2former", {"backbone": "tiny", "norm": "own"}, "for backbones of timm, not for 'tiny'"),
        ("mask2former", {"backbone": "timm/levit_128", "norm": "own"}, "one size only"),
        ("deeplabv3", {"backbone": "timm/hardcorenas_a"}, "gives no feature maps"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(name: str, arguments: dict[str, Any], expected: str) -> None:
    with pytest.raises(UnknownNetworkError, match=expected) as refused:
        check_arguments(name, arguments)
    assert "\n" not in str(refused.value)


def test_methods_that_freeze_statistics_need_some() -> None:
    check_batch_norm({"name": "deeplabv3", "backbone": f"timm/{LITE}"})
    check_batch_norm({"name": "deeplabv3", "backbone": "resnet50"})
    with pytest.raises(UnsuitableNetworkError, match=r"freezes the statistics .* 'timm/test_convnext' has none"):
        check_batch_norm({"name": "deeplabv3-ssul", "backbone": f"timm/{CONVNEXT}"})


@pytest.mark.parametrize("network", ["deeplabv3", "deeplabv3-ssul", "deeplabv3-barm"])
def test_every_deeplab_network_learns_through_it(network: str) -> None:
    built = build(network, [2], {"backbone": f"timm/{LITE}", **SMALL})
    outputs = built(image().expand(2, -1, -1, -1))
    assert outputs.logits.shape[2:] == (64, 96)
    outputs.logits.sum().backward()
    assert all(p.grad is not None for p in built.backbone.parameters())


@pytest.mark.parametrize(("backbone", "norm"), [(LITE, "frozen-bn"), (LITE, "bn"), (CONVNEXT, "own"), (VIT, "own")])
def test_mask_networks_learn_through_it(backbone: str, norm: str) -> None:
    built = build("mask2former", [2], {"backbone": f"timm/{backbone}", "norm": norm, **MASK})
    outputs = built(image())
    sum(p.masks.sum() + p.logits.sum() for p in outputs.predictions).backward()
    frozen = (FrozenBatchNorm2d, nn.BatchNorm2d)
    assert any(isinstance(m, frozen) for m in built.backbone.modules()) == (backbone == LITE and norm == "bn")
    learning = [p for p in built.backbone.parameters() if p.grad is not None and p.grad.abs().sum() > 0]
    assert len(learning) > 0.9 * len(list(built.backbone.parameters()))
