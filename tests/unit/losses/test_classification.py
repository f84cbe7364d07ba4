"""Classification losses: what their formulas promise."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from model.losses.classification import (
    binary_cross_entropy,
    cross_entropy,
    focal_loss,
    one_hot,
    reduce_pixels,
    unbiased_cross_entropy,
    unbiased_log_probabilities,
)

seeds = st.integers(0, 2**31 - 1)
scales = st.sampled_from([0.1, 1.0, 30.0, 1000.0])


def draw(seed: int, channels: int, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    """Logits (2, channels, 3, 4) and labels with background and ignored pixels."""
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(2, channels, 3, 4, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, channels, (2, 3, 4), generator=generator)
    labels[0, 0, 0], labels[0, 0, 1] = 255, 0
    return logits, labels


@settings(max_examples=40, deadline=None)
@given(seed=seeds, scale=scales, old=st.integers(1, 5))
def test_unbiased_probabilities_sum_to_one(seed, scale, old) -> None:
    log_q = unbiased_log_probabilities(draw(seed, 5, scale)[0], old)
    assert log_q.shape[1] == 1 + 5 - old
    torch.testing.assert_close(log_q.exp().sum(dim=1), torch.ones(2, 3, 4, dtype=torch.float64))


@settings(max_examples=40, deadline=None)
@given(seed=seeds, scale=scales)
def test_one_old_channel_makes_the_unbiased_loss_ordinary(seed, scale) -> None:
    logits, labels = draw(seed, 4, scale)
    torch.testing.assert_close(unbiased_cross_entropy(logits, labels, 1), cross_entropy(logits, labels))


@settings(max_examples=40, deadline=None)
@given(seed=seeds, shift=st.floats(-50, 50))
def test_how_old_classes_share_the_background_does_not_matter(seed, shift) -> None:
    logits, labels = draw(seed, 5)
    old = logits[:, :3].logsumexp(dim=1, keepdim=True)
    other = logits[:, :3] + torch.tensor([0.0, shift, -shift], dtype=torch.float64).view(1, 3, 1, 1)
    other = other - other.logsumexp(dim=1, keepdim=True) + old  # another split of the same total
    changed = torch.cat([other, logits[:, 3:]], dim=1)
    torch.testing.assert_close(unbiased_cross_entropy(changed, labels, 3), unbiased_cross_entropy(logits, labels, 3))


def test_labels_of_old_classes_count_as_background_and_are_not_overwritten() -> None:
    logits, labels = draw(0, 5)
    before, hidden = labels.clone(), torch.where((labels > 0) & (labels < 3), torch.zeros_like(labels), labels)
    torch.testing.assert_close(unbiased_cross_entropy(logits, labels, 3), unbiased_cross_entropy(logits, hidden, 3))
    assert torch.equal(labels, before)


def test_a_perfect_prediction_of_any_old_class_satisfies_a_background_label() -> None:
    logits = torch.zeros(1, 4, 1, 1, dtype=torch.float64)
    logits[0, 2] = 100
    background = torch.zeros(1, 1, 1, dtype=torch.long)
    assert unbiased_cross_entropy(logits, background, 3).item() == pytest.approx(0, abs=1e-12)
    assert cross_entropy(logits, background).item() == pytest.approx(100)


@pytest.mark.parametrize("old", [0, 6])
def test_old_channels_out_of_range(old) -> None:
    with pytest.raises(ValueError, match=f"{old} old channels, but the logits have 5"):
        unbiased_log_probabilities(draw(0, 5)[0], old)


LOSSES = {
    "cross_entropy": cross_entropy,
    "unbiased": lambda z, y, reduction="mean": unbiased_cross_entropy(z, y, 2, reduction),
    "binary": binary_cross_entropy,
    "focal": lambda z, y, reduction="mean": focal_loss(z, y, reduction=reduction),
}


@pytest.mark.parametrize("name", LOSSES)
def test_ignored_pixels_contribute_nothing_but_count_in_the_mean(name) -> None:
    logits, labels = draw(1, 4)
    labels[1] = 255
    logits.requires_grad_()
    LOSSES[name](logits, labels).backward()
    assert logits.grad[1].abs().max() == 0
    assert logits.grad[0, :, 0, 0].abs().max() == 0
    assert logits.grad[0, :, 1:].abs().max() > 0
    pixels = LOSSES[name](logits, labels, reduction="none")
    torch.testing.assert_close(LOSSES[name](logits, labels), pixels.sum() / labels.numel())
    torch.testing.assert_close(LOSSES[name](logits, labels, reduction="sum"), pixels.sum())
    valid = (labels != 255).sum()
    assert 0 < valid < labels.numel()
    torch.testing.assert_close(LOSSES[name](logits, labels, reduction="mean-valid"), pixels.sum() / valid)


@pytest.mark.parametrize("reduction", ["mean", "mean-valid"])
@pytest.mark.parametrize("name", LOSSES)
def test_a_batch_without_any_label_gives_zero(name, reduction) -> None:
    logits, labels = draw(1, 4)
    loss = LOSSES[name](logits.requires_grad_(), torch.full_like(labels, 255), reduction=reduction)
    loss.backward()
    assert loss.item() == 0
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("name", LOSSES)
def test_extreme_logits_stay_finite_in_single_precision(name) -> None:
    logits, labels = draw(2, 4, 1e4)
    logits = logits.float().requires_grad_()
    loss = LOSSES[name](logits, labels)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(logits.grad).all()


def test_unknown_reduction() -> None:
    with pytest.raises(ValueError, match="unknown reduction 'average'"):
        reduce_pixels(torch.zeros(1, 1, 1), torch.zeros(1, 1, 1), "average")  # type: ignore[arg-type]


def test_one_hot_leaves_ignored_pixels_out() -> None:
    labels = torch.tensor([[[0, 2, 255]]])
    assert one_hot(labels, 3)[0, :, 0].int().tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]


def test_binary_cross_entropy_is_a_sum_over_classes() -> None:
    logits = torch.zeros(1, 5, 1, 1, dtype=torch.float64)
    loss = binary_cross_entropy(logits, torch.tensor([[[3]]]))
    assert loss.item() == pytest.approx(5 * math.log(2))


def test_focal_loss_without_focus_is_the_cross_entropy_and_with_focus_smaller() -> None:
    logits, labels = draw(3, 4)
    torch.testing.assert_close(focal_loss(logits, labels, 0.0), cross_entropy(logits, labels))
    assert focal_loss(logits, labels, 2.0) < cross_entropy(logits, labels)


def test_cross_entropy_is_the_library_function_on_valid_pixels() -> None:
    logits, labels = draw(4, 4)
    expected = functional.cross_entropy(logits, labels, ignore_index=255)
    torch.testing.assert_close(cross_entropy(logits, labels, "mean-valid"), expected)
    assert cross_entropy(logits, labels) < expected
