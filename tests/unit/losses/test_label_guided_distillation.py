"""Where the old background's probability goes, and what the distillation is in the limits."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from model.losses.distillation import knowledge_distillation
from model.losses.label_guided_distillation import label_guided_distillation, label_guided_targets

OLD, NEW = 3, 2


def sample(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, OLD + NEW, 3, 4, generator=generator, dtype=torch.float64)
    old_logits = torch.randn(2, OLD, 3, 4, generator=generator, dtype=torch.float64)
    labels = torch.tensor([0, 1, 3, 4, 255])[torch.randint(0, 5, (2, 3, 4), generator=generator)]
    return logits, old_logits, labels


@given(st.integers(0, 1000))
def test_the_old_background_goes_to_the_labelled_new_class(seed: int) -> None:
    _, old_logits, labels = sample(seed)
    targets, old = label_guided_targets(old_logits, labels, OLD + NEW), old_logits.softmax(dim=1)
    torch.testing.assert_close(targets.sum(dim=1), torch.ones_like(targets[:, 0]))
    assert torch.equal(targets[:, 1:OLD], old[:, 1:])
    for c in range(OLD, OLD + NEW):
        assert torch.equal(targets[:, c], torch.where(labels == c, old[:, 0], 0))
    novel = (labels == 3) | (labels == 4)
    assert torch.equal(targets[:, 0], torch.where(novel, 0, old[:, 0]))


def test_without_new_classes_it_is_distillation_without_the_division() -> None:
    logits, old_logits, _ = sample(0)
    logits[:, OLD:] = -1e4
    labels = torch.zeros(2, 3, 4, dtype=torch.long)
    expected = OLD * knowledge_distillation(logits, old_logits)
    torch.testing.assert_close(label_guided_distillation(logits, old_logits, labels, 1.0, 7.0), expected)


def test_a_weight_of_zero_still_counts_in_the_mean() -> None:
    logits, old_logits, labels = sample(1)
    terms = label_guided_distillation(logits, old_logits, labels, 1.0, 0.0, per_pixel=True)
    assert not terms[labels >= OLD].any() and (terms[labels < OLD] > 0).all()
    value = label_guided_distillation(logits, old_logits, labels, 1.0, 0.0)
    torch.testing.assert_close(value, terms.sum() / (labels != 255).sum())


def test_the_gradient_is_the_difference_from_the_target() -> None:
    logits, old_logits, labels = sample(2)
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(label_guided_distillation(logits, old_logits, labels, 5.0, 0.5), logits)
    weights = torch.where(labels < OLD, 5.0, 0.5) * (labels != 255) / (labels != 255).sum()
    targets = label_guided_targets(old_logits, labels, OLD + NEW)
    torch.testing.assert_close(gradient, weights.unsqueeze(1) * (logits.softmax(dim=1) - targets))


def test_a_batch_of_void_is_worth_nothing() -> None:
    logits, old_logits, labels = sample(3)
    logits.requires_grad_()
    value = label_guided_distillation(logits, old_logits, torch.full_like(labels, 255))
    (gradient,) = torch.autograd.grad(value, logits)
    assert value == 0 and not gradient.any()
