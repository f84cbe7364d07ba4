"""Weights from elsewhere: conversions, completeness, untrusted files."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional

from model.networks.backbones.resnet import VARIANTS, ResNet, Variant
from model.networks.deeplabv3.network import DeepLabV3
from model.networks.deeplabv3.released_weights import CheckpointError, load_weights, read_state
from model.networks.layers import is_normalisation


def randomise(module: nn.Module) -> nn.Module:
    """Values that no default initialisation has, negative γ included."""
    torch.manual_seed(1)
    with torch.no_grad():
        for child in module.modules():
            if is_normalisation(child):
                child.weight.normal_()
                child.bias.normal_()
                child.running_mean.normal_()
                child.running_var.uniform_(0.5, 2)
    return module


SMALL = Variant((1, 2, 1, 1), bottleneck=True, width=8)
SHALLOW = Variant((1, 1, 1, 1), bottleneck=False)


def torchvision_network(*blocks: int) -> nn.Module:
    """Shallow, but otherwise one of theirs."""
    return torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, list(blocks))


def iabn_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A backbone's state under the names of the InPlaceABN ResNet; written independently of the conversion."""
    named = {}
    for key, value in state.items():
        if key.endswith("num_batches_tracked"):
            continue
        if match := re.fullmatch(r"layer(\d)\.(\d+)\.(.+)", key):
            stage, block, rest = int(match[1]) + 1, int(match[2]) + 1, match[3]
            rest = rest.replace("downsample.0", "proj_conv").replace("downsample.1", "proj_bn")
            inner = rest if rest.startswith("proj") else f"convs.{rest}"
            named[f"mod{stage}.block{block}.{inner}"] = value
        else:
            named[f"mod1.{key}"] = value
    return named


def test_torchvision_weights(tmp_path: Path) -> None:
    theirs = torchvision_network(1, 1, 1, 1)
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    ours = ResNet(SHALLOW)
    load_weights(ours, tmp_path / "w.pth", "torchvision")
    assert all(torch.equal(value, theirs.state_dict()[key]) for key, value in ours.state_dict().items())


def test_in_place_abn_weights_are_found_and_gamma_is_converted(tmp_path: Path) -> None:
    reference = randomise(ResNet(SMALL, act="leaky-relu"))
    named = iabn_names(reference.state_dict())
    content = {f"module.{key}": value for key, value in named.items()}
    content |= {"module.classifier.fc.weight": torch.zeros(2, 3), "module.classifier.fc.bias": torch.zeros(2)}
    torch.save({"state_dict": content, "epoch": 3}, tmp_path / "w.pth")
    ours = ResNet(SMALL, act="leaky-relu")
    load_weights(ours, tmp_path / "w.pth", "in-place-abn")
    for (key, value), (_, expected) in zip(ours.state_dict().items(), reference.state_dict().items(), strict=True):
        if key.endswith("num_batches_tracked"):
            continue
        is_gamma = expected.dim() == 1 and key.endswith("weight")
        torch.testing.assert_close(value, expected.abs() + 1e-5 if is_gamma else expected, rtol=0, atol=0)


def test_converted_layer_computes_what_in_place_abn_does(tmp_path: Path) -> None:
    reference = randomise(ResNet(SMALL, act="leaky-relu"))
    torch.save(iabn_names(reference.state_dict()), tmp_path / "w.pth")
    ours = ResNet(SMALL, act="leaky-relu").eval()
    load_weights(ours, tmp_path / "w.pth", "in-place-abn")
    images, bn = torch.randn(1, 3, 32, 32), reference.bn1
    x = reference.conv1(images)
    shape = (1, -1, 1, 1)
    normal = (x - bn.running_mean.view(shape)) / (bn.running_var.view(shape) + 1e-5).sqrt()
    expected = functional.leaky_relu((bn.weight.abs() + 1e-5).view(shape) * normal + bn.bias.view(shape), 0.01)
    torch.testing.assert_close(ours.activation(ours.bn1(ours.conv1(images))), expected)


def test_mib_checkpoint(tmp_path: Path) -> None:
    arguments = {"backbone": "tiny", "channels": 8}
    reference = randomise(DeepLabV3((3, 2), **arguments))
    state = reference.state_dict()
    backbone = {key.removeprefix("backbone."): value for key, value in state.items() if key.startswith("backbone.")}
    content = {f"module.body.{key}": value for key, value in iabn_names(backbone).items()}
    for key, value in state.items():
        if not key.startswith("backbone.") and not key.endswith("num_batches_tracked"):
            content["module." + key.replace("aspp.", "head.")] = value
    torch.save({"model_state": content}, tmp_path / "w.pth")
    ours = DeepLabV3((3, 2), **arguments)
    load_weights(ours, tmp_path / "w.pth", "mib")
    assert torch.equal(ours.aspp.map_bn.weight, reference.aspp.map_bn.weight.abs() + 1e-5)
    assert torch.equal(ours.aspp.red_conv.weight, reference.aspp.red_conv.weight)
    assert torch.equal(ours.cls[1].bias, reference.cls[1].bias)


def test_weights_that_do_not_fit_change_nothing(tmp_path: Path) -> None:
    torch.save(torchvision_network(1, 1, 1, 1).state_dict(), tmp_path / "w.pth")
    ours = ResNet(Variant((1, 2, 1, 1), bottleneck=False))
    before = ours.conv1.weight.clone()
    with pytest.raises(CheckpointError, match=r"w\.pth.*\d+ missing: layer2\.1\.conv1\.weight"):
        load_weights(ours, tmp_path / "w.pth", "torchvision")
    assert torch.equal(ours.conv1.weight, before)
    with pytest.raises(CheckpointError, match="not in the network"):
        load_weights(ResNet(SHALLOW), saved(tmp_path, torchvision_network(1, 2, 1, 1)), "torchvision")
    with pytest.raises(CheckpointError, match=r"of another shape: conv1\.weight is \(64, 3, 7, 7\), expected \(16,"):
        load_weights(ResNet(VARIANTS["tiny"]), tmp_path / "w.pth", "torchvision")


def saved(folder: Path, module: nn.Module) -> Path:
    torch.save(module.state_dict(), folder / "other.pth")
    return folder / "other.pth"


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, target: str) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return os.mkdir, (self.target,)


def test_a_file_that_runs_code_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {"x": torch.zeros(1)}, "other": Payload(str(tmp_path / "run"))}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="neither a tensor nor a plain value; nothing in it was executed"):
        read_state(tmp_path / "w.pth")
    assert not (tmp_path / "run").exists()


def test_missing_damaged_and_empty_files(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        read_state(tmp_path / "w.pth")
    file = saved(tmp_path, nn.Linear(64, 64))
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"other\.pth: "):
        read_state(file)
    file.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"other\.pth: "):
        read_state(file)
    torch.save({"epoch": 3}, file)
    with pytest.raises(CheckpointError, match="expected a state dict"):
        read_state(file)


def test_unknown_source(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="unknown source"):
        load_weights(ResNet(VARIANTS["tiny"]), tmp_path / "w.pth", "caffe")  # type: ignore[arg-type]
