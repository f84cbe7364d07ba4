"""Certainty of binary classifiers and the constraint on undecided pixels."""

from __future__ import annotations

import pytest
import torch

from model.losses.uncertainty import certainty, uncertainty_constraint, undecided


def scores(*rows: list[float]) -> torch.Tensor:
    """One pixel a row, (1, N, 1, pixels)."""
    return torch.tensor(rows).T[None, :, None, :]


def test_certainty_is_the_margin_of_the_best() -> None:
    margins = certainty(scores([0.9, 0.2, 0.7], [0.1, 0.1, 0.0])).flatten().tolist()
    assert margins == pytest.approx([0.2, 0.0])
    assert certainty(scores([0.3])).item() == pytest.approx(0.3)


def test_gradient_flows_through_the_runner_up_alone() -> None:
    p = scores([0.6, 0.2, 0.5]).requires_grad_()
    certainty(p).sum().backward()
    assert p.grad is not None and p.grad.flatten().tolist() == [0, 0, -1]


@pytest.mark.parametrize(
    ("pixel", "label", "counts"),
    [
        ([0.6, 0.2], 1, False),  # the labelled class wins
        ([0.6, 0.2], 2, True),
        ([0.6, 0.2], 0, True),
        ([0.6, 0.2], 255, True),
        ([0.71, 0.2], 0, False),  # decided
    ],
)
def test_which_pixels_count(pixel: list[float], label: int, counts: bool) -> None:
    assert undecided(scores(pixel), torch.tensor([[[label]]])).item() is counts


def test_every_pixel_is_in_the_mean() -> None:
    p = scores([0.6, 0.2], [0.9, 0.2])
    value = uncertainty_constraint(torch.logit(p), torch.zeros(1, 1, 2, dtype=torch.long))
    assert value.item() == pytest.approx((1 - 0.4) ** 2 / 2)


def test_the_runner_up_is_pushed_down() -> None:
    z = torch.logit(scores([0.6, 0.5])).requires_grad_()
    uncertainty_constraint(z, torch.zeros(1, 1, 1, dtype=torch.long)).backward()
    assert z.grad is not None
    best, second = z.grad.flatten().tolist()
    assert best == 0 and second > 0
