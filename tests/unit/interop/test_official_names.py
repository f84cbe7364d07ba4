"""Networks under released names and back: every weight bit for bit, and what does not fit is one line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden import key_lists, read_keys, weight
from official_networks import NETWORKS, built, stored, write
from torch import Tensor

from model.common.provenance import checksum
from model.config.recipes import Recipes
from model.interop.formats import FORMATS
from model.interop.importing import import_checkpoint
from model.interop.official_names import OfficialNamesError, fill, format_of, official_state, read_official
from model.networks import registry as networks
from model.networks.deeplabv3.released_weights import ABN_EPSILON
from model.training.checkpoint import Checkpoint


def without_counters(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}


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


@pytest.mark.parametrize("form", ["mask2former", "balconpas", "comformer", "eclipse", "simcis"])
def test_the_released_code_is_told_that_the_names_are_the_present_ones(tmp_path: Path, form: str) -> None:
    """Without the version that torch stores beside the weights it renames those of the pixel decoder once more."""
    write(tmp_path / "a.pth", form, official_state(stored(form), form))
    found = torch.load(tmp_path / "a.pth", weights_only=True)[FORMATS[form].container]
    assert found._metadata["sem_seg_head"]["version"] == found._metadata["sem_seg_head.predictor"]["version"] == 2


def test_a_swin_has_the_names_of_its_release(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    small = {key: value for key, value in NETWORKS["mask2former"][0].items() if key not in ("backbone", "norm")}
    arguments = {**small, "backbone": "timm/swin_tiny_patch4_window7_224", "norm": "own"}
    one, other = (networks.build("mask2former", [3], {k: v for k, v in arguments.items() if k != "name"}) for _ in "ab")
    assert format_of(one, arguments) == "mask2former"
    state = official_state(Checkpoint(one.state_dict(), (1, 2, 3), (3,), 0, arguments), "mask2former")
    assert "backbone.layers.0.downsample.reduction.weight" in state
    assert "backbone.layers.0.blocks.0.attn.relative_position_index" in state
    write(tmp_path / "a.pkl", "mask2former", state)
    fill(other, read_official(tmp_path / "a.pkl", "mask2former"), "a.pkl")
    for key, value in one.state_dict().items():
        assert torch.equal(other.state_dict()[key], value), key


def test_a_backbone_that_no_release_has_fits_none() -> None:
    network, arguments = built("mib")
    with pytest.raises(OfficialNamesError, match="no released implementation that Segue knows has"):
        format_of(network, {**arguments, "backbone": "timm/tf_efficientnet_lite0"})


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


RECIPES: dict[str, str] = {
    "balconpas": "mask2former-r50-ade20k-panoptic",
    "comformer": "mask2former-r50-ade20k-panoptic-comformer",
    "eclipse": "mask2former-r50-ade20k-panoptic-eclipse-100-10",
    "simcis": "mask2former-r50-ade20k-panoptic-simcis",
    "dkd": "deeplabv3-r101-voc-dkd",
    "star": "deeplabv3-r101-voc-star",
    "ssul": "deeplabv3-r101-voc-ssul",
    "barm": "deeplabv3-r101-voc-barm",
}


def arguments_of(form: str, keys: Mapping[str, tuple[tuple[int, ...], torch.dtype]]) -> dict[str, Any]:
    """The network of the release's recipe; backbone, normalisation and numbers of queries and classes are those of the list."""
    if form == "mask2former":
        found: dict[str, Any] = {"name": "mask2former", "head": "joint"}
    else:
        recipe = Recipes().load(RECIPES[form])
        found = {**recipe.network, **recipe.increment.network}
    found.pop("weights", None)
    rows = {key.removeprefix("sem_seg_head.predictor."): shape[0] for key, (shape, _) in keys.items() if shape}
    if "backbone.patch_embed.proj.weight" in keys:
        size = {(96, 6): "tiny", (96, 18): "small", (128, 18): "base", (192, 18): "large"}
        blocks = {key.split(".")[4] for key in keys if key.startswith("backbone.layers.2.blocks.")}
        kind = size[rows["backbone.patch_embed.proj.weight"], len(blocks)]
        cells = rows["backbone.layers.0.blocks.0.attn.relative_position_index"]
        found |= {"backbone": f"timm/swin_{kind}_patch4_window{ {49: '7_224', 144: '12_384'}[cells] }", "norm": "own"}
    elif "backbone.stem.conv1.weight" in keys:
        found["backbone"] = "resnet101" if "backbone.res4.22.conv1.weight" in keys else "resnet50"
        found["norm"] = "bn" if any(key.endswith("num_batches_tracked") for key in keys) else "frozen-bn"
    if "query_feat.weight" in rows:
        found["queries"] = rows["query_feat.weight"]
    if form == "simcis":
        found["classes"] = rows["class_embed.bias"]
    if "prompt_feat.0.weight" in rows:
        found["prompts"] = rows["prompt_feat.0.weight"]
    return found


@pytest.mark.parametrize("file", key_lists("*.txt"))
def test_official_key_lists_filled_by_the_rule_are_imported(file: Path, tmp_path: Path) -> None:
    """Files as the released code would write them, with values that the rule of the recordings gives."""
    form = file.name.split("_")[0]
    if form not in FORMATS:
        pytest.skip(f"Segue has no network of {form}")
    expected = read_keys(file)
    state = {key: torch.zeros(shape, dtype=dtype) for key, (shape, dtype) in expected.items()}
    for key, value in state.items():
        if value.is_floating_point():
            value.copy_(torch.from_numpy(np.asarray(weight(key, tuple(value.shape)))))
    stored_at = tmp_path / "released.pth"
    write(stored_at, form, state)
    counts, arguments = steps_of(form, expected), arguments_of(form, expected)
    past, total = sum(counts[:-1]), sum(counts)
    spec = {
        "step": {"index": len(counts) - 1, "past": list(range(past)), "current": list(range(past, total))},
        "recipe": {"network": arguments},
        "imported": {"format": form, "sha256": checksum(stored_at), "classes_per_step": counts},
    }
    found = import_checkpoint(stored_at, spec)
    again = official_state(found, form)
    kept = {key: value for key, value in state.items() if not key.startswith(("criterion.",))}
    assert without_counters(again).keys() == without_counters(kept).keys()
    last = {again[key].data_ptr(): key for key in without_counters(kept)}  # SimCIS has several names for one weight
    for key, value in without_counters(kept).items():
        if (
            value.is_floating_point() and last[again[key].data_ptr()] == key
        ):  # integers follow from the sizes of windows
            assert torch.equal(again[key], value), key


def steps_of(form: str, keys: dict[str, tuple[tuple[int, ...], torch.dtype]]) -> list[int]:
    """Classes of each step, from the shapes of the classifiers."""
    patterns = {
        "mask2former": r".*class_embed\.bias",
        "balconpas": r".*class_embeds\.\d+\.bias",
        "comformer": r".*class_embed\.cls\.\d+\.bias",
        "eclipse": r".*class_embed\.cls\.\d+\.layers\.2\.bias",
        "simcis": r".*class_embed\.bias",
        "ssul": r"classifier\.head\.\d+\.3\.bias",
        "barm": r"classifier\.head\.\d+\.bias",
    }
    pattern = patterns.get(form, r"cls\.\d+\.bias")
    outputs = [shape[0] for key, (shape, _) in keys.items() if re.fullmatch(pattern, key)]
    if form == "ssul":
        return outputs[2:]
    if form in ("dkd", "comformer", "eclipse"):
        return outputs[1:]
    if form == "mask2former":
        return [outputs[0] - 1]
    if form == "simcis":  # one head for all steps from the start
        return [outputs[0] - 10, 10]
    if form == "barm":
        return [count - 1 for count in outputs]
    return [outputs[0] - 1, *outputs[1:]] if form == "balconpas" else outputs
