"""Frozen batch normalisation: torchvision's buffers and values."""

import torch
import torchvision.ops

from model.networks.backbones.frozen_norm import FrozenBatchNorm2d


def filled(norm: torch.nn.Module) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(0)
    state = {key: torch.rand(5, generator=generator) + 0.5 for key in norm.state_dict()}
    norm.load_state_dict(state)
    return norm


def test_buffers_and_values_are_torchvisions() -> None:
    ours, theirs = filled(FrozenBatchNorm2d(5)), filled(torchvision.ops.FrozenBatchNorm2d(5))
    assert list(ours.state_dict()) == list(theirs.state_dict())
    x = torch.randn(2, 5, 6, 7)
    assert torch.equal(ours(x), theirs(x))
    assert not list(ours.parameters())


def test_weights_of_ordinary_normalisation_fit() -> None:
    ordinary = torch.nn.BatchNorm2d(5).eval()
    torch.nn.init.uniform_(ordinary.running_var, 0.5, 1.5)
    frozen = FrozenBatchNorm2d(5)
    frozen.load_state_dict(ordinary.state_dict())
    x = torch.randn(2, 5, 6, 7)
    torch.testing.assert_close(frozen(x), ordinary(x))
