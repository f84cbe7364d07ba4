"""BARM's network: branches, one background, growth."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch.nn import functional

from model.networks.deeplabv3.barm_network import BarmDeepLabV3, copy_base_branch, unified_logits
from model.networks.deeplabv3.network import NetworkError
from model.networks.deeplabv3.released_weights import load_weights


@pytest.fixture
def network() -> BarmDeepLabV3:
    torch.manual_seed(0)
    return BarmDeepLabV3((2,), backbone="tiny", channels=8, rates=(1, 2, 3), output_stride=8)


def heads(*classes: int) -> list[torch.Tensor]:
    return [torch.randn(2, 1 + n, 3, 3, requires_grad=True) for n in classes]


def test_residuals_only_lower_the_background_in_evaluation() -> None:
    given = heads(3, 1, 2)
    unified = unified_logits(given, training=False)
    assert unified.shape == (2, 1 + 6, 3, 3)
    residuals = given[1][:, :1].clamp(max=0) + given[2][:, :1].clamp(max=0)
    torch.testing.assert_close(unified[:, :1], given[0][:, :1] + residuals)
    torch.testing.assert_close(unified[:, 1:], torch.cat([head[:, 1:] for head in given], dim=1))


def test_the_background_learns_through_the_newest_residual_alone() -> None:
    given = heads(3, 1, 2)
    unified = unified_logits(given, training=True)
    torch.testing.assert_close(unified[:, :1], given[0][:, :1] + given[1][:, :1].clamp(max=0) + given[2][:, :1])
    unified[:, 0].sum().backward()
    assert all(head.grad is None or (head.grad == 0).all() for head in given[:2])
    assert (given[2].grad[:, 0] == 1).all() and (given[2].grad[:, 1:] == 0).all()


@pytest.mark.parametrize("training", [True, False])
def test_a_single_head_is_left_alone(training) -> None:
    (given,) = heads(3)
    assert unified_logits([given], training) is given


def test_outputs(network) -> None:
    images = torch.randn(2, 3, 32, 32)
    assert network(images).logits.shape == (2, 3, 32, 32)
    network.grow(3)
    outputs = network.eval()(images)
    assert outputs.logits.shape == (2, 6, 32, 32)
    assert [head.shape[1] for head in outputs.heads] == [3, 4]
    assert [branch.shape for branch in outputs.branches] == [(2, 8, 4, 4)] * 2
    torch.testing.assert_close(outputs.coarse_logits, unified_logits(outputs.heads, training=False))
    expected = functional.interpolate(outputs.coarse_logits, (32, 32), mode="bilinear", align_corners=False)
    torch.testing.assert_close(outputs.logits, expected)
    assert network.train()(images).logits.shape == (2, 6, 32, 32)


def test_growth_changes_nothing_old(network) -> None:
    before = deepcopy(network.state_dict())
    network.grow(1)
    network.grow(2)
    assert network.classes_per_step == [2, 1, 2]
    assert all(torch.equal(network.state_dict()[key], value) for key, value in before.items())
    with pytest.raises(NetworkError, match="at least one new class"):
        network.grow(0)


@pytest.mark.parametrize("statistics", [False, True])
def test_a_branch_starts_as_the_base_branch(network, statistics) -> None:
    """As released without its statistics, so that it computes something else."""
    network(torch.randn(2, 3, 32, 32))  # statistics that are not the initial ones
    network.grow(1)
    copy_base_branch(network.classifier, statistics)
    base, branch = network.classifier.head_pre.eval(), network.classifier.ear[0].eval()
    for copied in ("0.weight", "1.weight", "1.bias"):
        assert torch.equal(branch.state_dict()[copied], base.state_dict()[copied])
    assert (branch[1].running_mean == 0).all() is not statistics
    features = torch.randn(1, 8, 5, 5)
    assert torch.allclose(branch(features), base(features)) == statistics


def test_a_branch_to_start_is_needed(network) -> None:
    with pytest.raises(ValueError, match="only the base branch"):
        copy_base_branch(network.classifier, statistics=False)


def test_half_precision_logits_are_raised_to_single(network) -> None:
    network.grow(1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = network(torch.randn(2, 3, 32, 32))
    assert outputs.branches[1].dtype == torch.bfloat16
    assert outputs.logits.dtype == outputs.heads[1].dtype == torch.float32


def test_a_released_checkpoint_loads_by_name(network, tmp_path) -> None:
    network.grow(2)
    wanted = deepcopy(network.state_dict())
    torch.save({"model_state": {f"module.{k}": v for k, v in wanted.items()}}, tmp_path / "w.pth")
    other = BarmDeepLabV3((2, 2), backbone="tiny", channels=8, rates=(1, 2, 3), output_stride=8)
    load_weights(other, tmp_path / "w.pth", "barm")
    assert all(torch.equal(value, wanted[key]) for key, value in other.state_dict().items())
