"""The DeepLabV3 variants expose the names, shapes and order of the official checkpoints of DKD, STAR, SSUL and BARM."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from golden import key_lists, read_keys

from model.networks.deeplabv3.barm_network import BarmDeepLabV3
from model.networks.deeplabv3.network import DeepLabV3
from model.networks.deeplabv3.released_weights import from_dkd, load_state
from model.networks.deeplabv3.ssul_network import SsulDeepLabV3

VARIANT = {"backbone": "resnet101", "head": "dkd", "activation": "relu", "dilate_first_block": False}


@pytest.mark.parametrize("file", [*key_lists("dkd_*.txt"), *key_lists("star_*.txt")])
def test_official_names(file: Path) -> None:
    auxiliary = file.name.startswith("dkd_")  # one more classifier, with one channel, before the first step's
    expected = read_keys(file)
    channels = [shape[0] for key, (shape, _) in expected.items() if key.startswith("cls.") and key.endswith("weight")]
    classes = channels[1:] if auxiliary else channels
    with torch.device("meta"):
        network = DeepLabV3(classes, background=False, auxiliary=auxiliary, **VARIANT)
    ours = {key: (tuple(value.shape), value.dtype) for key, value in network.state_dict().items()}
    assert list(ours.items()) == list(expected.items())
    weights = {key: torch.empty(shape, dtype=dtype, device="meta") for key, (shape, dtype) in expected.items()}
    load_state(network, from_dkd(weights), file.name)


@pytest.mark.parametrize("file", key_lists("ssul_*.txt"))
def test_official_names_of_ssul(file: Path) -> None:
    expected = read_keys(file)
    channels = [
        shape[0]
        for key, (shape, _) in expected.items()
        if key.startswith("classifier.head.") and key.endswith("3.weight")
    ]
    assert channels[:2] == [1, 1]  # unknown and background
    with torch.device("meta"):
        network = SsulDeepLabV3(channels[2:])
    ours = {key: (tuple(value.shape), value.dtype) for key, value in network.state_dict().items()}
    assert list(ours.items()) == list(expected.items())
    weights = {key: torch.empty(shape, dtype=dtype, device="meta") for key, (shape, dtype) in expected.items()}
    load_state(network, weights, file.name)


@pytest.mark.parametrize("file", key_lists("barm_*.txt"))
def test_official_names_of_barm(file: Path) -> None:
    expected = read_keys(file)
    heads = re.compile(r"classifier\.head\.\d+\.weight")
    classes = [shape[0] - 1 for key, (shape, _) in expected.items() if heads.fullmatch(key)]
    with torch.device("meta"):
        network = BarmDeepLabV3(classes)
    ours = {key: (tuple(value.shape), value.dtype) for key, value in network.state_dict().items()}
    assert list(ours.items()) == list(expected.items())
    weights = {key: torch.empty(shape, dtype=dtype, device="meta") for key, (shape, dtype) in expected.items()}
    load_state(network, weights, file.name)
