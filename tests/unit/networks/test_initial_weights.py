from pathlib import Path

import pytest
import torch

from model.networks.initial_weights import InitialWeightsError, check_source, load_initial_weights, weights_file
from model.networks.registry import UnknownNetworkError, build, known, module_of

PIXEL = {"backbone": "tiny", "channels": 16, "rates": [1, 2, 3]}
MASK = {"backbone": "tiny", "norm": "bn", "channels": 32, "queries": 4, "encoder_layers": 1, "decoder_layers": 1}


def test_environment_variables_are_filled_in(monkeypatch, tmp_path):
    monkeypatch.setenv("SEGUE_TEST_WEIGHTS", str(tmp_path))
    entry = {"file": "$SEGUE_TEST_WEIGHTS/resnet.pth", "source": "torchvision"}
    assert weights_file(entry) == Path(tmp_path / "resnet.pth")
    monkeypatch.delenv("SEGUE_TEST_WEIGHTS")
    with pytest.raises(InitialWeightsError, match=r"SEGUE_TEST_WEIGHTS.*not set"):
        weights_file(entry)


@pytest.mark.parametrize("entry", ["resnet.pth", {"file": "a.pth"}, {"file": "a", "source": "b", "extra": 1}])
def test_an_entry_has_a_file_and_a_source(entry):
    with pytest.raises(InitialWeightsError, match="'file' and 'source'"):
        weights_file(entry)


@pytest.mark.parametrize(
    ("name", "arguments", "source"), [("deeplabv3", PIXEL, "dkd"), ("mask2former", MASK, "mask2former")]
)
def test_a_whole_network_comes_back(tmp_path, name, arguments, source):
    network, other = build(name, [2], arguments), build(name, [2], arguments)
    torch.save(network.state_dict(), tmp_path / "whole.pth")
    load_initial_weights(name, other, {"file": str(tmp_path / "whole.pth"), "source": source})
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in other.state_dict().items())


@pytest.mark.parametrize(
    ("name", "arguments", "source"), [("deeplabv3", PIXEL, "torchvision"), ("mask2former", MASK, "detectron2")]
)
def test_a_backbone_leaves_the_rest_alone(tmp_path, name, arguments, source):
    network, other = build(name, [2], arguments), build(name, [2], arguments)
    before = {key: value.clone() for key, value in other.state_dict().items()}
    torch.save(network.backbone.state_dict(), tmp_path / "backbone.pth")
    load_initial_weights(name, other, {"file": str(tmp_path / "backbone.pth"), "source": source})
    for key, value in other.state_dict().items():
        expected = network.state_dict() if key.startswith("backbone.") else before
        assert torch.equal(value, expected[key]), key


def test_an_unknown_source_is_named(tmp_path):
    with pytest.raises(InitialWeightsError, match=r"'deeplabv3' cannot load 'timm', only torchvision"):
        load_initial_weights("deeplabv3", build("deeplabv3", [2], PIXEL), {"file": "a.pth", "source": "timm"})


@pytest.mark.parametrize(
    ("name", "entry", "message"),
    [
        ("deeplabv3", {"file": "a.pth", "source": "segue"}, r"'deeplabv3' cannot load 'segue', only torchvision, "),
        ("mask2former", {"file": "a.pth", "source": "in-place-abn"}, "'mask2former' cannot load 'in-place-abn', only"),
        ("deeplabv3", {"file": "a.pth"}, "'file' and 'source'"),
        ("deeplabv3", "a.pth", "'file' and 'source'"),
    ],
)
def test_an_entry_is_checked_without_its_file(name, entry, message):
    with pytest.raises(InitialWeightsError, match=message):
        check_source(name, entry)
    check_source("deeplabv3", {"file": "a.pth", "source": "torchvision"})


def test_the_registry_names_modules_and_suggests():
    assert {"deeplabv3", "mask2former"} <= set(known())
    assert module_of("deeplabv3") == "model.networks.deeplabv3.network"
    with pytest.raises(UnknownNetworkError, match="did you mean 'deeplabv3'"):
        build("deeplab", [2], {})
    with pytest.raises(UnknownNetworkError, match="no argument 'chanels'; did you mean 'channels'"):
        build("deeplabv3", [2], {"chanels": 8})
