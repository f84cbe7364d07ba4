"""Reasons for and against a class."""

from __future__ import annotations

import torch
from torch.nn import functional

from model.losses.foreground import soft_foreground_cross_entropy
from model.losses.reasoning_distillation import reasoning_distillation, reasoning_scores


def made(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


def test_reasons_add_up_to_the_logit_and_speak_for_one_side() -> None:
    features, weight = made(2, 6, 3, 4).relu(), made(5, 6, 1, 1)
    positive, negative = reasoning_scores(features, weight)
    torch.testing.assert_close(positive + negative, functional.conv2d(features, weight))
    assert positive.min() >= 0 >= negative.max()


def test_reasons_are_held_one_by_one() -> None:
    """Changes that leave every logit as it was, but not the reasons, cost something: that is the point of the method."""
    features, weight = made(1, 4, 3, 3).relu(), made(2, 4, 1, 1)
    twice = torch.cat([features, features], dim=1)
    split = torch.cat([weight + 1, -torch.ones_like(weight)], dim=1)
    torch.testing.assert_close(functional.conv2d(twice, split), functional.conv2d(features, weight))
    same = reasoning_distillation(features, weight, features, weight)
    for changed, unchanged in zip(reasoning_distillation(twice, split, features, weight), same, strict=True):
        assert changed > unchanged + 1e-3


def test_old_features_and_classifiers_get_no_gradient() -> None:
    arguments = [made(1, 4, 3, 3).requires_grad_(), made(2, 4, 1, 1).requires_grad_()]
    old = [value.detach().flip(1).requires_grad_() for value in arguments]
    sum(reasoning_distillation(*arguments, *old)).backward()
    assert all(x.grad is not None and x.grad.abs().max() > 0 for x in arguments)
    assert all(x.grad is None for x in old)


def test_old_opinions_are_targets_only_where_no_label_speaks() -> None:
    logits, old_logits = made(1, 5, 2, 2).requires_grad_(), made(1, 4, 2, 2)
    labels = torch.tensor([[[0, 4], [255, 2]]])
    soft_foreground_cross_entropy(logits, labels, old_logits).backward()
    targets = logits.detach().sigmoid() - logits.grad * logits.numel()
    expected = torch.zeros(1, 5, 2, 2, dtype=torch.float64)
    expected[0, 1], expected[0, 3] = old_logits[0, 1].sigmoid(), old_logits[0, 3].sigmoid()
    expected[0, 2, 1, 1] = expected[0, 4, 0, 1] = 1
    torch.testing.assert_close(targets, expected)
