"""Public weight files: their formats, their older names, and what is refused."""

from __future__ import annotations

import os
import pickle
import re
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models import resnet

from model.common.weight_files import WeightFileError, read_weights
from model.networks.backbones.detectron_resnet import RESNETS, BasicBlock, Bottleneck, ResNet
from model.networks.mask2former.network import Mask2Former, build_mask2former
from model.networks.mask2former.released_weights import (
    WeightMismatchError,
    current_names,
    from_caffe2,
    load_backbone,
    load_network,
)


def small(head: str, classes: tuple[int, ...] = (3,), seed: int = 0) -> Mask2Former:
    torch.manual_seed(seed)
    return build_mask2former(
        list(classes), backbone="tiny", norm="bn", head=head, channels=32, queries=5, encoder_layers=1,
        decoder_layers=1, encoder_feed_forward=16, decoder_feed_forward=16,
    )  # fmt: skip


def same(mine: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return mine.keys() == theirs.keys() and all(torch.equal(mine[key], theirs[key]) for key in mine)


def arrays(network: torch.nn.Module) -> dict[str, np.ndarray]:
    return {key: value.numpy() for key, value in network.state_dict().items()}


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_pickle_of_arrays_as_in_the_model_zoo(tmp_path: Path, protocol: int) -> None:
    source, network = small("joint", seed=1), small("joint")
    content = {"model": arrays(source) | {"criterion.empty_weight": np.ones(4)}, "__author__": "someone"}
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    load_network(network, tmp_path / "model.pkl")
    assert same(network.state_dict(), source.state_dict())


def test_a_torch_archive_with_optimiser_state(tmp_path: Path) -> None:
    source, network = small("steps", (3, 2), seed=1), small("steps", (3, 2))
    torch.save({"model": source.state_dict(), "optimizer": {"state": {}}, "iteration": 7}, tmp_path / "model.pth")
    load_network(network, tmp_path / "model.pth")
    assert same(network.state_dict(), source.state_dict())


def test_names_of_early_releases(tmp_path: Path) -> None:
    source, network = small("joint", seed=1), small("joint")
    old = {}
    for key, value in source.state_dict().items():
        key = key.replace("predictor.query_feat", "predictor.static_query")
        old[key.replace("sem_seg_head.pixel_decoder.", "sem_seg_head.")] = value
    assert any("static_query" in key for key in old) and not any("pixel_decoder" in key for key in old)
    assert same(current_names(old), dict(source.state_dict()))
    torch.save(old, tmp_path / "old.pth")
    load_network(network, tmp_path / "old.pth")
    assert same(network.state_dict(), source.state_dict())


@pytest.mark.parametrize(("there", "here"), [("joint", "steps"), ("steps", "joint")])
def test_a_joint_head_is_the_head_of_a_first_step(tmp_path: Path, there: str, here: str) -> None:
    source, network = small(there, seed=1), small(here)
    torch.save(source.state_dict(), tmp_path / "model.pth")
    load_network(network, tmp_path / "model.pth")
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(network.eval()(images).logits, source.eval()(images).logits)


def test_a_checkpoint_of_other_classes_names_the_difference(tmp_path: Path) -> None:
    torch.save(small("joint", (4,)).state_dict(), tmp_path / "model.pth")
    with pytest.raises(WeightMismatchError, match=r"class_embed\.weight' has shape \(5, 32\) instead of \(4, 32\)"):
        load_network(small("joint"), tmp_path / "model.pth")


def test_missing_and_superfluous_weights_are_named(tmp_path: Path) -> None:
    state = small("joint").state_dict()
    state["backbone.extra"] = state.pop("backbone.stem.conv1.weight")
    torch.save(state, tmp_path / "model.pth")
    with pytest.raises(
        WeightMismatchError, match=r"'backbone\.extra' is not part.*'backbone\.stem\.conv1\.weight' is missing"
    ):
        load_network(small("joint"), tmp_path / "model.pth")


class _Hostile:
    def __reduce__(self):
        return os.mkdir, ("owned",)


@pytest.mark.parametrize("suffix", ["pkl", "pth"])
def test_code_in_a_file_is_refused_and_not_run(tmp_path: Path, monkeypatch, suffix: str) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"weights.{suffix}"
    content = {"model": {"a": np.ones(2)}, "x": _Hostile()}
    torch.save(content, path) if suffix == "pth" else path.write_bytes(pickle.dumps(content))
    with pytest.raises(WeightFileError, match=re.escape(str(path))):
        read_weights(path)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    "content", [b"", b"not a pickle", pickle.dumps([1, 2]), pickle.dumps({"model": {"a": "text"}})]
)
def test_files_without_weights_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "weights.pkl").write_bytes(content)
    with pytest.raises(WeightFileError, match=r"weights\.pkl"):
        read_weights(tmp_path / "weights.pkl")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightFileError, match="no such file"):
        read_weights(tmp_path / "nothing.pth")


@pytest.mark.parametrize(("mine", "theirs"), [(BasicBlock, resnet.BasicBlock), (Bottleneck, resnet.Bottleneck)])
def test_backbone_of_torchvision(tmp_path: Path, mine, theirs) -> None:
    torch.manual_seed(0)
    theirs = resnet.ResNet(theirs, [1, 2, 1, 1]).double().eval()
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    torch.save(theirs.state_dict(), tmp_path / "imagenet.pth")
    mine = ResNet(mine, (1, 2, 1, 1), "frozen-bn").double().eval()
    load_backbone(mine, tmp_path / "imagenet.pth")
    images = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(images))))
        for stage, layer in zip(
            mine(images).values(), (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4), strict=True
        ):
            x = layer(x)
            torch.testing.assert_close(stage, x)


def test_backbone_under_detectron2_names(tmp_path: Path) -> None:
    source, mine = RESNETS["tiny"]("frozen-bn"), RESNETS["tiny"]("bn")
    content = {"model": OrderedDict(arrays(source)) | {"fc.weight": np.ones((2, 2))}, "matching_heuristics": True}
    (tmp_path / "R.pkl").write_bytes(pickle.dumps(content))
    load_backbone(mine, tmp_path / "R.pkl")
    assert torch.equal(mine.stem.conv1.weight, source.stem.conv1.weight)


def caffe2_names(key: str) -> str:
    key = key.replace("stem.conv1.norm", "res_conv1_bn").replace("stem.conv1", "conv1")
    key = re.sub(r"^res(\d)\.(\d+)\.", r"res\1_\2_", key)
    key = key.replace("shortcut", "branch1")
    key = re.sub(r"(res\d_\d+_)conv(\d)", lambda m: m[1] + "branch2" + "abc"[int(m[2]) - 1], key)
    key = re.sub(r"(\.norm|_bn)\.weight", "_bn_s", key)
    key = re.sub(r"(\.norm|_bn)\.bias", "_bn_b", key)
    return key.replace(".weight", "_w")


def test_backbone_under_caffe2_names(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = ResNet(Bottleneck, (1, 1, 2, 1), "frozen-bn", width=8)
    state = {key: value for key, value in source.state_dict().items() if "running" not in key}
    old = {caffe2_names(key): value.numpy() for key, value in state.items()}
    assert {"conv1_w", "res_conv1_bn_s", "res2_0_branch1_w", "res4_1_branch2b_bn_b"} <= old.keys()
    old["fc1000_w"] = np.ones((2, 2))
    (tmp_path / "R-50.pkl").write_bytes(pickle.dumps({"blobs": old}, protocol=2))
    mine = ResNet(Bottleneck, (1, 1, 2, 1), "frozen-bn", width=8)
    load_backbone(mine, tmp_path / "R-50.pkl")
    assert same(mine.state_dict(), source.state_dict())
    assert from_caffe2({"res_conv1_bn_s": torch.ones(2)}).keys() == {
        f"stem.conv1.norm.{name}" for name in ("weight", "running_mean", "running_var")
    }


def test_other_networks_are_not_a_backbone(tmp_path: Path) -> None:
    torch.save({"features.0.weight": torch.ones(2)}, tmp_path / "vgg.pth")
    with pytest.raises(WeightFileError, match=r"no ResNet.*features\.0\.weight"):
        load_backbone(RESNETS["tiny"]("bn"), tmp_path / "vgg.pth")
