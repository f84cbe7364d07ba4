"""Pooled cube distillation against its definition, written as loops."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from model.losses.pooled_cube import channel_cube_distance, energy_difference, spatial_cube_distance


def padded(x: Tensor, dim: int, by: int) -> Tensor:
    size = list(x.shape)
    size[dim] = by
    return torch.cat([x.new_zeros(size), x, x.new_zeros(size)], dim)


@pytest.mark.parametrize("window", [2, 3, 4, 7])
def test_spatial_means_count_the_padding(window: int) -> None:
    torch.manual_seed(0)
    difference = torch.randn(2, 3, 5, 4, dtype=torch.double)
    whole = padded(padded(difference, 2, window // 2), 3, window // 2)
    rows, columns = (whole.shape[dim] - window + 1 for dim in (2, 3))
    means = torch.stack(
        [
            whole[:, :, i : i + window, j : j + window].sum(dim=(2, 3)) / window**2
            for i in range(rows)
            for j in range(columns)
        ]
    )
    expected = means.square().sum(dim=(0, 2)).sqrt().mean()
    torch.testing.assert_close(spatial_cube_distance(difference, (window,)), expected)


def test_channel_means_count_the_padding() -> None:
    torch.manual_seed(0)
    difference = torch.randn(2, 4, 3, 2, dtype=torch.double)
    whole = padded(difference, 1, 1)
    means = torch.stack([whole[:, k : k + 3].sum(dim=1) / 3 for k in range(4)], dim=1)
    torch.testing.assert_close(channel_cube_distance(difference), means.flatten(1).norm(dim=1).mean())


def test_windows_have_equal_weight() -> None:
    difference = torch.randn(1, 2, 6, 6)
    separate = [spatial_cube_distance(difference, (k,)) for k in (4, 8)]
    torch.testing.assert_close(spatial_cube_distance(difference, (4, 8)), torch.stack(separate).mean())


def test_energies_forget_the_sign_and_nothing_flows_into_the_old_network() -> None:
    features, old = (torch.randn(1, 2, 3, 3, requires_grad=True) for _ in range(2))
    assert not energy_difference(-old, old).any()
    spatial_cube_distance(energy_difference(features, old)).backward()
    assert old.grad is None and features.grad is not None and features.grad.any()
    assert energy_difference(features.half(), old.half()).dtype == torch.float32
