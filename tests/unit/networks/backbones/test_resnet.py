"""Backbones: torchvision's names and values, dilation rules, output strides, the two activations."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from model.networks.backbones.resnet import VARIANTS, ResNet, Variant, strides_and_dilations
from model.networks.layers import activation, normalisations, xavier_gain

PUBLISHED = ["resnet18", "resnet34", "resnet50", "resnet101"]


def shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in module.state_dict().items()}


@pytest.mark.parametrize("name", PUBLISHED)
def test_keys_and_shapes_are_torchvisions(name: str) -> None:
    with torch.device("meta"):
        theirs = shapes(torchvision.models.get_model(name))
        ours = shapes(ResNet(VARIANTS[name]))
    assert ours == {key: value for key, value in theirs.items() if not key.startswith("fc.")}


@pytest.mark.parametrize(("bottleneck", "output_stride"), [(False, 32), (True, 32), (True, 16), (True, 8)])
def test_values_are_torchvisions(bottleneck: bool, output_stride: int) -> None:
    """On a shallow network of each kind; depth adds blocks, not code."""
    replace = {32: [False, False, False], 16: [False, False, True], 8: [False, True, True]}[output_stride]
    blocks = (1, 1, 2, 2)
    kind = torchvision.models.resnet.Bottleneck if bottleneck else torchvision.models.resnet.BasicBlock
    torch.manual_seed(0)
    theirs = torchvision.models.ResNet(kind, list(blocks), replace_stride_with_dilation=replace).eval()
    ours = ResNet(Variant(blocks, bottleneck), output_stride=output_stride).eval()
    ours.load_state_dict({k: v for k, v in theirs.state_dict().items() if not k.startswith("fc.")})
    body = torchvision.models._utils.IntermediateLayerGetter(theirs, {"layer4": "out"})
    images = torch.randn(1, 3, 65, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(images).body, body(images)["out"], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("output_stride", "dilate_first", "expected"),
    [
        (32, False, [(1, 1, 1), (2, 1, 1), (2, 1, 1), (2, 1, 1)]),
        (16, False, [(1, 1, 1), (2, 1, 1), (2, 1, 1), (1, 1, 2)]),
        (16, True, [(1, 1, 1), (2, 1, 1), (2, 1, 1), (1, 2, 2)]),
        (8, False, [(1, 1, 1), (2, 1, 1), (1, 1, 2), (1, 2, 4)]),
        (8, True, [(1, 1, 1), (2, 1, 1), (1, 2, 2), (1, 4, 4)]),
    ],
)
def test_the_two_dilation_rules(output_stride, dilate_first, expected) -> None:
    assert strides_and_dilations(output_stride, dilate_first) == expected


def test_only_the_first_dilated_block_differs_between_the_rules() -> None:
    with torch.device("meta"):
        published, torchvision_rule = (
            ResNet(VARIANTS["resnet50"], dilate_first_block=rule).get_submodule("layer4") for rule in (True, False)
        )
    assert [block.conv2.dilation[0] for block in published] == [2, 2, 2]
    assert [block.conv2.dilation[0] for block in torchvision_rule] == [1, 2, 2]


@pytest.mark.parametrize("output_stride", [4, 8, 16, 32])
def test_output_size(output_stride: int) -> None:
    network = ResNet(VARIANTS["tiny"], output_stride=output_stride)
    assert network(torch.randn(2, 3, 64, 96)).body.shape == (2, 128, 64 // output_stride, 96 // output_stride)
    assert network.out_channels == 128


def test_an_impossible_output_stride_is_refused() -> None:
    with pytest.raises(ValueError, match="output stride 12"):
        ResNet(VARIANTS["tiny"], output_stride=12)


@pytest.mark.parametrize("act", ["relu", "leaky-relu"])
def test_stages_are_the_values_before_the_activation(act) -> None:
    network = ResNet(VARIANTS["tiny"], act=act, keep_stages=True)
    features = network(torch.randn(2, 3, 64, 64))
    assert [tuple(stage.shape[1:]) for stage in features.stages] == [(16, 16, 16), (32, 8, 8), (64, 4, 4), (128, 4, 4)]
    assert features.stages[-1].min() < 0
    torch.testing.assert_close(features.body, activation(act, inplace=False)(features.stages[-1]))


def test_keeping_the_stages_changes_no_value_and_no_gradient() -> None:
    gradients = []
    for keep in (False, True):
        torch.manual_seed(0)
        network = ResNet(VARIANTS["tiny"], act="leaky-relu", keep_stages=keep)
        network(torch.randn(2, 3, 32, 32)).body.square().mean().backward()
        gradients.append([parameter.grad for parameter in network.parameters()])
    for without, with_stages in zip(*gradients, strict=True):
        torch.testing.assert_close(without, with_stages, rtol=0, atol=0)


def test_activations() -> None:
    x = torch.tensor([-2.0, 3.0])
    assert activation("leaky-relu", inplace=False)(x).tolist() == pytest.approx([-0.02, 3.0])
    assert activation("identity")(x) is x
    assert xavier_gain("identity") == 1
    with pytest.raises(ValueError, match="unknown activation 'gelu'"):
        activation("gelu")  # type: ignore[arg-type]


def test_normalisations_are_all_found() -> None:
    network = ResNet(VARIANTS["tiny"])
    assert len(normalisations(network)) == sum(isinstance(m, nn.BatchNorm2d) for m in network.modules()) == 12
