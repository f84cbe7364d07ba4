"""Official names of Swin and timm's: both ways, the same maps, and whole checkpoints of Mask2Former."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch

from model.networks.backbones.swin_names import relative_positions, to_official, to_timm
from model.networks.backbones.timm import TimmPyramid
from model.networks.backbones.timm_weights import load_backbone
from model.networks.initial_weights import load_initial_weights
from model.networks.mask2former.released_weights import to_swin
from model.networks.registry import build

SWIN = "swin_tiny_patch4_window7_224"
SMALL = {"channels": 32, "queries": 4, "encoder_layers": 1, "decoder_layers": 1, "norm": "own"}


def test_names_go_both_ways_and_down_sampling_moves() -> None:
    state = timm.create_model(SWIN).state_dict()
    official = to_official(state)
    assert torch.equal(official["layers.0.downsample.norm.weight"], state["layers.1.downsample.norm.weight"])
    assert {"head.weight", "head.bias"} <= official.keys() and "layers.3.downsample.norm.weight" not in official
    back = to_timm({**official, "layers.0.blocks.1.attn_mask": torch.zeros(4, 49, 49)})
    assert back.keys() == state.keys() and all(torch.equal(back[key], state[key]) for key in state)


@pytest.mark.parametrize("window", [7, 12])
def test_the_index_of_relative_positions_is_timms(window: int) -> None:
    attention = timm.models.swin_transformer.WindowAttention(32, num_heads=2, window_size=window)
    assert torch.equal(relative_positions(window), attention.relative_position_index)


def test_an_official_file_fills_the_backbone_and_leaves_the_norms_of_maps(tmp_path: Path) -> None:
    whole, backbone = timm.create_model(SWIN), TimmPyramid(SWIN)
    torch.save({"model": to_official(whole.state_dict())}, tmp_path / "swin.pth")
    load_backbone(backbone, tmp_path / "swin.pth", "swin")
    expected = whole.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in backbone.model.state_dict().items())
    maps = backbone(torch.rand(1, 3, 64, 64))
    for one in maps.values():  # as in Mask2Former, every map is normalised
        assert one.mean(dim=1).abs().max() < 1e-5 and (one.var(dim=1, unbiased=False) - 1).abs().max() < 1e-2


def test_a_complete_checkpoint_comes_back(tmp_path: Path) -> None:
    arguments = {"backbone": f"timm/{SWIN}", **SMALL}
    network, other = build("mask2former", [2], arguments), build("mask2former", [2], arguments)
    torch.save({"model": to_swin(network.state_dict())}, tmp_path / "checkpoint.pth")
    entry = {"file": str(tmp_path / "checkpoint.pth"), "source": "mask2former"}
    load_initial_weights("mask2former", other, entry, arguments["backbone"])
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in other.state_dict().items())
