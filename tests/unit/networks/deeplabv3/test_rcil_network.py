"""RCIL's network: twins, growth, weights from plain networks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from model.networks.backbones.resnet import VARIANTS, ResNet
from model.networks.deeplabv3.network import NetworkError
from model.networks.deeplabv3.rcil_network import RcilDeepLabV3
from model.networks.initial_weights import load_initial_weights


def tiny(classes=(3,), **arguments) -> RcilDeepLabV3:
    return RcilDeepLabV3(classes, **{"backbone": "tiny", "channels": 8, "rates": (1, 2, 3), **arguments})


def test_outputs() -> None:
    network = tiny((3, 2))
    outputs = network(torch.randn(2, 3, 64, 48))
    assert outputs.logits.shape == (2, 6, 64, 48) and outputs.coarse_logits.shape == (2, 6, 4, 3)
    assert outputs.pre_logits.shape == (2, 8, 4, 3)
    assert [stage.shape[1] for stage in outputs.stages] == [16, 32, 64, 128]
    assert torch.equal(outputs.stages[-1], outputs.body)  # activated, unlike those that PLOP compares


@pytest.mark.parametrize(("backbone", "pairs"), [("tiny", 8), ("resnet18", 16), ("resnet50", 16)])
def test_every_3x3_convolution_of_a_block_has_a_twin(backbone: str, pairs: int) -> None:
    network = tiny(backbone=backbone)
    assert len(network.twins) == pairs + 1  # that of the head holds all parallel convolutions
    blocks = [m for name, m in network.backbone.named_modules() if "layer" in name and isinstance(m, nn.Conv2d)]
    assert sum(conv.kernel_size == (3, 3) for conv in blocks) == 2 * pairs


def test_backbone_twins_start_alike_and_those_of_the_head_do_not() -> None:
    network = tiny()
    for pair in network.backbone.twins:
        assert torch.equal(pair.convs[0].weight, pair.new_convs[0].weight)
    (pair,) = network.aspp.twins
    assert not any(torch.equal(a.weight, b.weight) for a, b in zip(pair.convs, pair.new_convs, strict=True))


def test_the_stem_is_not_activated() -> None:
    assert isinstance(tiny().backbone.activation, nn.Identity)


def test_merging_halves_the_way_back_to_the_old_function() -> None:
    """Where twins differ, the network after the merge is not the one before: the second branch is averaged in once more."""
    torch.manual_seed(0)
    network, images = tiny().eval(), torch.randn(1, 3, 64, 64)
    before = network(images).logits
    keys = list(network.state_dict())
    network.merge()
    assert list(network.state_dict()) == keys
    assert not torch.allclose(network(images).logits, before)
    other = tiny().eval()
    other.load_state_dict(network.state_dict())
    assert torch.equal(other(images).logits, network(images).logits)


@pytest.mark.parametrize("classes", [(), (3, 0)])
def test_a_step_without_a_class_is_refused(classes) -> None:
    with pytest.raises(NetworkError, match="at least one class"):
        tiny(classes)


def test_an_unknown_backbone_is_refused() -> None:
    with pytest.raises(NetworkError, match="unknown backbone 'resnet9'"):
        tiny(backbone="resnet9")


def test_weights_of_a_plain_backbone_fill_both_twins(tmp_path) -> None:
    plain, network = ResNet(VARIANTS["tiny"]), tiny()
    for module in plain.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
    torch.save(plain.state_dict(), tmp_path / "plain.pth")
    entry = {"file": str(tmp_path / "plain.pth"), "source": "torchvision"}
    load_initial_weights("deeplabv3-rcil", network, entry)
    found, given = network.backbone.state_dict(), plain.state_dict()
    for key, value in found.items():
        origin = key.replace("_new.", ".")
        if origin in given:
            assert torch.equal(value, given[origin]), key
        else:
            assert key.endswith(".bias") and not value.any()
    assert sum("_new." in key for key in found) > 0
