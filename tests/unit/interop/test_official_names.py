"""Networks under released names and back: every weight bit for bit, and what does not fit is one line."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden import fill as golden_fill
from golden import key_lists, read_keys, weight
from torch import Tensor, nn

from model.interop.formats import FORMATS
from model.interop.official_names import OfficialNamesError, fill, format_of, official_state, read_official
from model.networks import registry as networks
from model.networks.deeplabv3.released_weights import ABN_EPSILON
from model.training.checkpoint import Checkpoint

DEEPLAB = {"backbone": "tiny", "channels": 32, "output_stride": 16}
MASK = {
    **{"backbone": "tiny", "norm": "bn", "channels": 32, "encoder_layers": 1, "decoder_layers": 2},
    **{"encoder_feed_forward": 16, "decoder_feed_forward": 16, "queries": 5},
}
NETWORKS: dict[str, tuple[dict[str, Any], list[int]]] = {
    "mask2former": ({"name": "mask2former", "head": "joint", **MASK}, [3]),
    "balconpas": ({"name": "mask2former", "head": "steps", **MASK}, [3, 2]),
    "comformer": ({"name": "mask2former", "head": "separate-no-object", **MASK}, [3, 2]),
    "eclipse": ({"name": "mask2former-eclipse", **{k: v for k, v in MASK.items()}}, [3, 2]),
    "dkd": ({"name": "deeplabv3", "head": "dkd", "background": False, "auxiliary": True, **DEEPLAB}, [3, 2]),
    "star": ({"name": "deeplabv3", "head": "dkd", "background": False, **DEEPLAB}, [3, 2]),
    "ssul": ({"name": "deeplabv3-ssul", "backbone": "tiny", "channels": 32}, [3, 2]),
    "barm": ({"name": "deeplabv3-barm", "backbone": "tiny", "channels": 32}, [3, 2]),
    "mib": ({"name": "deeplabv3", **DEEPLAB}, [3, 2]),
    "plop": ({"name": "deeplabv3", **DEEPLAB}, [3, 2]),
    "sdr": ({"name": "deeplabv3", "head_activation": "identity", **DEEPLAB}, [3, 2]),
}


def built(form: str, seed: int = 0, classes: list[int] | None = None) -> tuple[nn.Module, dict[str, Any]]:
    arguments, counts = NETWORKS[form]
    torch.manual_seed(seed)
    network = networks.build(arguments["name"], classes or counts, {k: v for k, v in arguments.items() if k != "name"})
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                value.copy_(torch.rand(value.shape, generator=generator) + 0.01 + ("var" in name))
    return network, arguments


def stored(form: str, seed: int = 0) -> Checkpoint:
    network, arguments = built(form, seed)
    return Checkpoint(network.state_dict(), (1, 2, 3, 4, 5), tuple(network.classes_per_step), 1, arguments)  # type: ignore[arg-type]


def without_counters(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}


def write(path: Path, form: str, state: dict[str, Tensor]) -> None:
    """As the released code of a format does, by the ending of the file."""
    if path.suffix == ".pkl":
        path.write_bytes(pickle.dumps({"model": {key: value.numpy() for key, value in state.items()}}))
    else:
        torch.save({FORMATS[form].container: state, "epoch": 30, "optimizer_state": {}}, path)


@pytest.mark.parametrize("suffix", [".pth", ".pth.tar", ".pkl"])
@pytest.mark.parametrize("form", NETWORKS)
def test_there_and_back_is_the_same_network(tmp_path: Path, form: str, suffix: str) -> None:
    checkpoint, file = stored(form), tmp_path / f"released{suffix}"
    assert format_of(built(form)[0], checkpoint.network_arguments, form) == form
    state = official_state(checkpoint, form)
    write(file, form, {f"module.{key}" if suffix == ".pth.tar" else key: value for key, value in state.items()})
    other, _ = built(form, seed=1)
    fill(other, read_official(file, form), str(file))
    found, expected = without_counters(other.state_dict()), without_counters(checkpoint.network)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(found[key], value), key


def test_names_of_mib_are_those_of_its_code() -> None:
    names = set(official_state(stored("mib"), "mib"))
    assert {"body.mod1.conv1.weight", "body.mod1.bn1.running_mean", "head.map_convs.0.weight", "cls.1.bias"} <= names
    assert any(re.fullmatch(r"body\.mod\d\.block1\.convs\.conv1\.weight", name) for name in names)
    assert any(re.fullmatch(r"body\.mod\d\.block1\.proj_bn\.weight", name) for name in names)
    assert not any(
        name.startswith(("backbone", "aspp")) or "downsample" in name or "num_batches" in name for name in names
    )


def test_scales_are_those_that_in_place_abn_makes_ours_of() -> None:
    checkpoint = stored("mib")
    scales = checkpoint.network["aspp.map_bn.weight"]
    scales[:] = torch.logspace(-4.9, 4, len(scales))
    gamma = official_state(checkpoint, "mib")["head.map_bn.weight"]
    torch.testing.assert_close(gamma.abs() + ABN_EPSILON, scales, atol=0, rtol=2**-22)
    exact = scales > 2**-13
    assert exact.sum() > 100 and torch.equal((gamma.abs() + ABN_EPSILON)[exact], scales[exact])
    scales[0] = -0.5
    with pytest.raises(OfficialNamesError, match=r"aspp\.map_bn\.weight' has a scale of -0\.5"):
        official_state(checkpoint, "mib")


def test_a_network_without_a_released_counterpart_says_so() -> None:
    network, arguments = built("mib")
    with pytest.raises(OfficialNamesError, match=r"DKD does not have .*; it fits mib, plop, sdr"):
        format_of(network, arguments, "dkd")
    with pytest.raises(OfficialNamesError, match="no released implementation that Segue knows has"):
        format_of(network, {"name": "deeplabv3-rcil"})


def test_every_problem_is_one_line(tmp_path: Path) -> None:
    file, state = tmp_path / "released.pth", official_state(stored("balconpas"), "balconpas")

    def problem(changed: dict[str, Tensor], classes: list[int] | None = None) -> str:
        write(file, "balconpas", changed)
        with pytest.raises(ValueError) as error:
            fill(built("balconpas", 1, classes)[0], read_official(file, "balconpas"), str(file))
        assert "\n" not in str(error.value) and "released.pth" in str(error.value)
        return str(error.value)

    first = next(iter(state))
    assert f"1 missing: {first}" in problem({key: value for key, value in state.items() if key != first})
    assert "1 not in the network: extra" in problem(state | {"extra": torch.ones(1)})
    assert re.search(r"class_embeds\.1\.weight is \(2, 32\), expected \(4, 32\)", problem(state, [3, 4]))
    before = built("balconpas", 1)[0].state_dict()
    network = built("balconpas", 1)[0]
    write(file, "balconpas", {key: value for key, value in state.items() if key != first})
    with pytest.raises(ValueError):
        fill(network, read_official(file, "balconpas"), str(file))
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())  # nothing was changed


def test_a_mask2former_checkpoint_fits_the_head_of_a_first_step(tmp_path: Path) -> None:
    write(tmp_path / "coco.pkl", "mask2former", official_state(stored("mask2former"), "mask2former"))
    network, _ = built("balconpas", 1, [3])
    fill(network, read_official(tmp_path / "coco.pkl", "mask2former"), "coco.pkl")
    expected = stored("mask2former").network["sem_seg_head.predictor.class_embed.weight"]
    assert torch.equal(network.state_dict()["sem_seg_head.predictor.class_embeds.0.weight"], expected)


RECIPES: dict[str, dict[str, Any]] = {
    "balconpas": {"name": "mask2former", "head": "steps"},
    "comformer": {"name": "mask2former", "head": "separate-no-object"},
    "dkd": {"name": "deeplabv3", "head": "dkd", "background": False, "auxiliary": True},
    "star": {"name": "deeplabv3", "head": "dkd", "background": False},
    "ssul": {"name": "deeplabv3-ssul"},
    "barm": {"name": "deeplabv3-barm"},
}


@pytest.mark.parametrize("file", key_lists("*_*_step1.txt"))
def test_official_key_lists_filled_by_the_rule_are_read(file: Path, tmp_path: Path) -> None:
    """Files as the released code would write them, with values that the rule of the recordings gives."""
    form = file.name.split("_")[0]
    if form not in RECIPES:
        pytest.skip(f"Segue has no network of {form}")
    expected = read_keys(file)
    state = {key: torch.zeros(shape, dtype=dtype) for key, (shape, dtype) in expected.items()}
    for key, value in state.items():
        if value.is_floating_point():
            value.copy_(torch.from_numpy(np.asarray(weight(key, tuple(value.shape)))))
    write(tmp_path / "released.pth", form, state)
    arguments = dict(RECIPES[form])
    counts = steps_of(form, expected)
    network = networks.build(arguments.pop("name"), counts, arguments)
    fill(network, read_official(tmp_path / "released.pth", form), file.name)
    reference = networks.build(RECIPES[form]["name"], counts, arguments)
    golden_fill(reference)
    for key, value in without_counters(reference.state_dict()).items():
        assert torch.equal(network.state_dict()[key], value), key


def steps_of(form: str, keys: dict[str, tuple[tuple[int, ...], torch.dtype]]) -> list[int]:
    """Classes of each step, from the shapes of the classifiers."""
    patterns = {
        "balconpas": r".*class_embeds\.\d+\.bias",
        "ssul": r"classifier\.head\.\d+\.3\.bias",
        "barm": r"classifier\.head\.\d+\.bias",
    }
    pattern = patterns.get(form, r"cls\.\d+\.bias")
    outputs = [shape[0] for key, (shape, _) in keys.items() if re.fullmatch(pattern, key)]
    if form == "ssul":
        return outputs[2:]
    if form == "dkd":
        return outputs[1:]
    if form == "barm":
        return [count - 1 for count in outputs]
    return [outputs[0] - 1, *outputs[1:]] if form == "balconpas" else outputs
