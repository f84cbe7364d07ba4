"""The weight of doubt, the pixels that count, and which way the two readings pull."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from model.losses.distillation import knowledge_distillation
from model.losses.entropy_weighted_distillation import entropy_in_bits, entropy_weighted_distillation


def sample() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    old_logits = torch.randn(2, 3, 3, 4, generator=generator, dtype=torch.float64)
    labels = torch.tensor([0, 4, 255])[torch.randint(0, 3, (2, 3, 4), generator=generator)]
    return logits, old_logits, labels


def test_a_fair_choice_of_four_has_two_bits() -> None:
    torch.testing.assert_close(entropy_in_bits(torch.full((1, 4, 1, 1), 0.25)), torch.full((1, 1, 1), 2.0))


def test_without_weights_and_new_classes_it_is_distillation_without_the_division() -> None:
    logits, _, labels = sample()
    old_logits = torch.randn(2, 5, 3, 4, dtype=torch.float64)
    everything = torch.zeros_like(labels)
    expected = 5 * knowledge_distillation(logits, old_logits)
    torch.testing.assert_close(entropy_weighted_distillation(logits, old_logits, everything, 0.0), expected)


def test_labelled_pixels_are_left_to_their_labels() -> None:
    logits, old_logits, labels = sample()
    (gradient,) = torch.autograd.grad(entropy_weighted_distillation(logits, old_logits, labels), logits)
    assert torch.equal(gradient.abs().sum(dim=1) > 0, labels != 4)


def test_doubt_weighs_more() -> None:
    old_logits = torch.tensor([[0.0, 0.0], [9.0, 0.0]], dtype=torch.float64).view(2, 2, 1, 1)
    labels = torch.zeros(1, 1, 1, dtype=torch.long)
    ratios = []
    for old in old_logits.unsqueeze(1):
        values = [
            entropy_weighted_distillation(torch.zeros(1, 2, 1, 1, dtype=torch.float64), old, labels, weight)
            for weight in (1.0, 0.0)
        ]
        ratios.append(float(values[0] / values[1]))
    assert ratios[0] == pytest.approx(2.0) and 1.0 < ratios[1] < 1.01


def agreement(logits: Tensor, old_logits: Tensor) -> Tensor:
    padded = torch.cat([old_logits, torch.zeros_like(logits[:, 3:])], dim=1)
    return (padded.softmax(dim=1) * logits.softmax(dim=1)).sum()


def test_the_paper_pulls_together_and_the_released_product_drives_apart() -> None:
    logits, old_logits, labels = sample()
    before = agreement(logits, old_logits)
    for released, better in ((False, True), (True, False)):
        value = entropy_weighted_distillation(logits, old_logits, torch.zeros_like(labels), released_product=released)
        (gradient,) = torch.autograd.grad(value, logits)
        assert (agreement(logits - gradient, old_logits) > before) == better


@pytest.mark.parametrize("weighted_mean", [False, True])
def test_nothing_unlabelled_is_nothing_to_distil(weighted_mean: bool) -> None:
    logits, old_logits, labels = sample()
    value = entropy_weighted_distillation(logits, old_logits, torch.full_like(labels, 4), weighted_mean=weighted_mean)
    (gradient,) = torch.autograd.grad(value, logits)
    assert value == 0 and not gradient.any()
