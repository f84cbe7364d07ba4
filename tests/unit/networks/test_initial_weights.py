import hashlib
import sys
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch

from model.networks.initial_weights import check_content, check_source, load_initial_weights
from model.networks.registry import UnknownNetworkError, build, known, module_of
from model.networks.weights_entry import InitialWeightsError, spec_entry, to_fetch, verified_file, weights_file

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


ENTRY = {"file": "a.pth", "source": "timm"}
WHOLE = "0" * 64


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({**ENTRY, "package": "some-package"}, "'package' needs 'sha256'"),
        ({**ENTRY, "url": "https://example.org/a.pth"}, "'url' needs 'sha256'"),
        ({**ENTRY, "package": "p", "url": "https://example.org/a.pth", "sha256": WHOLE}, "exclude each other"),
        ({**ENTRY, "package": "p", "sha256": "0" * 8}, "sha256: expected 64 lower-case hexadecimal digits"),
        ({**ENTRY, "sha256": "12345"}, "sha256: expected 8 to 64 lower-case"),
        ({**ENTRY, "sha256": 12345678}, "sha256: expected a text"),
        ({**ENTRY, "sha": WHOLE}, "expected the keys 'file' and 'source', and perhaps"),
    ],
)
def test_keys_go_together(entry, message):
    with pytest.raises(InitialWeightsError, match=message):
        check_source("deeplabv3", entry, "timm/test_resnet")


def test_sources_are_those_of_the_backbone():
    for name in ("deeplabv3", "mask2former"):
        check_source(name, ENTRY, "timm/test_resnet")
        with pytest.raises(
            InitialWeightsError, match=rf"'{name}' with backbone 'timm/x' cannot load 'in-place-abn', only timm"
        ):
            check_source(name, {**ENTRY, "source": "in-place-abn"}, "timm/x")


def test_where_a_file_comes_from_is_no_part_of_what_trains():
    entry = {**ENTRY, "url": "https://example.org/a.pth", "sha256": WHOLE, "licence": "MIT"}
    assert spec_entry(entry) == {**ENTRY, "sha256": WHOLE}


def test_a_file_is_fetched_only_where_it_is_not_there(tmp_path):
    entry = {"file": str(tmp_path / "a.pth"), "source": "timm", "url": "https://example.org/a.pth", "sha256": WHOLE}
    assert to_fetch(entry) == tmp_path / "a.pth"
    assert to_fetch({key: value for key, value in entry.items() if key != "url"}) is None
    (tmp_path / "a.pth").touch()
    assert to_fetch(entry) is None


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package that must never be run, with weights of timm's test_resnet."""
    state = timm.create_model("test_resnet").state_dict()
    folder = tmp_path / "site" / "carrier"
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise SystemExit('the code of the package was run')")
    torch.save(state, folder / "models/weights.pth")
    info = tmp_path / "site" / "carrier_of_weights-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: carrier-of-weights\nVersion: 1.0\n")
    files = ["carrier/__init__.py", "carrier/models/weights.pth", "carrier_of_weights-1.0.dist-info/METADATA"]
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return folder / "models/weights.pth"


def entry_of(file: Path, **changes):
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    named = {"package": "carrier-of-weights", "file": "models/weights.pth", "sha256": digest, "source": "timm"}
    return {**named, **changes}


def test_weights_inside_a_package_are_loaded_and_its_code_is_not_run(package):
    entry = entry_of(package)
    assert verified_file(entry) == package
    network = build("deeplabv3", [2], {"backbone": "timm/test_resnet", "channels": 8})
    load_initial_weights("deeplabv3", network, entry, "timm/test_resnet")
    expected = torch.load(package, weights_only=True)
    assert torch.equal(network.backbone.model.state_dict()["conv1.0.weight"], expected["conv1.0.weight"])
    assert "carrier" not in sys.modules


def test_weights_that_cannot_be_used_are_told_in_one_line(package):
    good = entry_of(package)
    network = {"name": "deeplabv3", "backbone": "timm/test_resnet"}
    check_content({**network, "weights": good})
    cases = {
        r"package 'not-there' is not installed: run `make setup`": {**good, "package": "not-there"},
        r"package 'carrier-of-weights' has no file 'models/other.pth'": {**good, "file": "models/other.pth"},
        r"weights.pth has sha256 .*, but network.weights says 0000.*: it is incomplete or another file; reinstall": {
            **good,
            "sha256": WHOLE,
        },
    }
    for message, entry in cases.items():
        with pytest.raises(InitialWeightsError, match=message) as refused:
            check_content({**network, "weights": entry})
        assert "\n" not in str(refused.value)
    with pytest.raises(ValueError, match=r"weights.pth: the weights do not fit timm's 'resnet18'") as refused:
        check_content({**network, "backbone": "timm/resnet18", "weights": good})
    assert "\n" not in str(refused.value)
    package.write_bytes(package.read_bytes()[:1000])
    with pytest.raises(InitialWeightsError, match="it is incomplete or another file"):
        check_content({**network, "weights": good})
    with pytest.raises(ValueError, match=r"weights.pth: cannot be read as weights"):
        check_content({**network, "weights": {"file": str(package), "source": "timm"}})
    package.unlink()
    with pytest.raises(InitialWeightsError, match="does not exist"):
        check_content({**network, "weights": good})


def test_the_beginning_of_a_checksum_is_enough_for_a_file(tmp_path):
    (tmp_path / "a.pth").write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    entry = {"file": str(tmp_path / "a.pth"), "source": "torchvision", "sha256": digest[:8]}
    assert verified_file(entry) == tmp_path / "a.pth"
    with pytest.raises(InitialWeightsError, match="download it again"):
        verified_file({**entry, "sha256": digest[1:9]})


def test_resnets_are_read_from_safetensors_too(tmp_path):
    network, other = build("deeplabv3", [2], PIXEL), build("deeplabv3", [2], PIXEL)
    safetensors.torch.save_file(network.backbone.state_dict(), tmp_path / "backbone.safetensors")
    entry = {"file": str(tmp_path / "backbone.safetensors"), "source": "torchvision"}
    load_initial_weights("deeplabv3", other, entry)
    assert torch.equal(other.backbone.conv1.weight, network.backbone.conv1.weight)
