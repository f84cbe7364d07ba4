"""Networks for inference, with normalisation folded into convolutions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from model.networks import registry
from model.networks.backbones.frozen_norm import FrozenBatchNorm2d
from model.networks.folding import folded_copy

SMALL_DECODER: dict[str, Any] = {
    "backbone": "tiny",
    "channels": 32,
    "encoder_layers": 1,
    "encoder_heads": 4,
    "encoder_feed_forward": 32,
    "decoder_layers": 1,
    "decoder_heads": 4,
    "decoder_feed_forward": 32,
    "queries": 5,
}
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "mib": ("deeplabv3", {"backbone": "tiny", "channels": 16}),
    "mib-bottlenecks": ("deeplabv3", {"backbone": "resnet50", "channels": 16, "keep_stages": True}),
    "dkd": ("deeplabv3", {"backbone": "tiny", "channels": 16, "head": "dkd", "background": False, "auxiliary": True}),
    "barm": ("deeplabv3-barm", {"backbone": "tiny", "channels": 16}),
    "rcil": ("deeplabv3-rcil", {"backbone": "tiny", "channels": 16}),
    "ssul": ("deeplabv3-ssul", {"backbone": "tiny", "channels": 16}),
    "mask2former": ("mask2former", {**SMALL_DECODER, "norm": "bn"}),
    "mask2former-frozen": ("mask2former", {**SMALL_DECODER, "backbone": "resnet50", "norm": "frozen-bn"}),
}
NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm, FrozenBatchNorm2d)
REMAINING = {"mib": 3, "mib-bottlenecks": 3, "rcil": 4}
"""Normalisations of concatenated or summed convolutions, in the heads of MiB and RCIL."""


def network_of(name: str, seed: int) -> nn.Module:
    """With statistics, scales and shifts as after training."""
    torch.manual_seed(seed)
    built, arguments = NETWORKS[name]
    network = registry.build(built, [3, 2], arguments)
    for module in network.modules():
        if isinstance(module, NORMS):
            for tensor, low in ((module.weight, 0.5), (module.bias, -0.5), (module.running_mean, -0.5)):
                nn.init.uniform_(tensor, low, low + 1.0)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    return network.eval()


def answers(outputs: Any) -> list[Tensor]:
    """What methods read."""
    if hasattr(outputs, "predictions"):
        return [tensor for one in outputs.predictions for tensor in (one.logits, one.masks)]
    return [outputs.logits, *outputs.stages]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_folded_network_computes_the_same(name: str) -> None:
    network = network_of(name, 0).double()  # far from the threshold of attention masks, whatever is rounded
    images = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    with torch.no_grad():
        pairs = list(zip(answers(network(images)), answers(folded_copy(network)(images)), strict=True))
    for before, after in pairs:
        torch.testing.assert_close(after, before, rtol=1e-9, atol=1e-9 * float(before.abs().max()))


@settings(max_examples=8)
@given(seed=st.integers(0, 1000), name=st.sampled_from([name for name in NETWORKS if "mask2former" not in name]))
def test_in_single_precision_it_differs_by_rounding(seed: int, name: str) -> None:
    network = network_of(name, seed)
    images = torch.randn(1, 3, 48, 64).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        before, after = network(images).logits, folded_copy(network)(images).logits
    assert (after - before).abs().max() <= 1e-5 * before.abs().max()


@pytest.mark.parametrize("name", NETWORKS)
def test_every_normalisation_that_follows_one_convolution_is_folded(name: str) -> None:
    left = [module for module in folded_copy(network_of(name, 0)).modules() if isinstance(module, NORMS)]
    assert len(left) == REMAINING.get(name, 0)


def test_the_network_itself_stays_as_it_was() -> None:
    network = network_of("mib", 0).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    folded = folded_copy(network)
    assert network.training and not folded.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert not any(parameter.requires_grad for parameter in folded.parameters())
    after = network.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)
    assert not {p.data_ptr() for p in network.parameters()} & {p.data_ptr() for p in folded.parameters()}


def test_convolutions_compute_in_channels_last_order() -> None:
    folded = folded_copy(network_of("mib", 0))
    assert all(
        module.weight.is_contiguous(memory_format=torch.channels_last)
        for module in folded.modules()
        if isinstance(module, nn.Conv2d)
    )


def test_a_normalisation_of_several_convolutions_is_left_alone() -> None:
    class Concatenated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convs = nn.ModuleList([nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)])
            self.bn = nn.BatchNorm2d(8)

    assert isinstance(folded_copy(Concatenated()).bn, nn.BatchNorm2d)


def test_a_normalisation_that_also_activates_is_left_alone() -> None:
    class Activating(nn.BatchNorm2d):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input).relu()

    network = nn.Sequential(nn.Conv2d(3, 4, 1), Activating(4)).eval()
    images = torch.randn(2, 3, 5, 5)
    torch.testing.assert_close(folded_copy(network)(images), network(images))


def test_names_in_networks_of_others_tell_no_order() -> None:
    class PreActivated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bn1, self.conv1 = nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv1(self.bn1(x).relu())

    network = PreActivated().eval()
    nn.init.uniform_(network.bn1.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    images = torch.randn(2, 3, 5, 5)
    torch.testing.assert_close(folded_copy(network)(images), network(images))
