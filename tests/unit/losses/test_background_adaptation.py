"""What BARM asks of residuals, features and heads."""

from __future__ import annotations

import math

import pytest
import torch

from model.losses.background_adaptation import (
    background_feature_distillation,
    class_prototypes,
    coarse_labels,
    group_distillation,
    residual_on_new_classes,
    residual_triplet,
)

EVERYWHERE, NOWHERE = torch.ones(1, 2, 2, dtype=torch.bool), torch.zeros(1, 2, 2, dtype=torch.bool)


def test_the_triplet_asks_for_residuals_that_are_not_negative() -> None:
    """Non-negative residuals, which the clamp of evaluation removes, cost nothing and get no push."""
    residual = torch.tensor([[[-2.0, -0.1], [0.5, 3.0]]], requires_grad=True)
    residual_triplet(residual, EVERYWHERE).backward()
    assert (residual.grad[0, 0] < 0).all() and (residual.grad[0, 1] == 0).all()
    scores = torch.tensor([-2.0, -0.1]).sigmoid()
    assert residual_triplet(residual, EVERYWHERE).item() == pytest.approx((1 - 2 * scores).sum().item() / 4, abs=1e-6)


@pytest.mark.parametrize("loss", [residual_triplet, residual_on_new_classes])
def test_masks_select_and_an_empty_one_costs_nothing(loss) -> None:
    residual = torch.tensor([[[-1.0, 1.0], [-2.0, 2.0]]], requires_grad=True)
    left = torch.tensor([[[True, False], [True, False]]])
    assert loss(residual, left) == loss(residual[:, :, :1], left[:, :, :1])
    empty = loss(residual, NOWHERE)
    empty.backward()
    assert empty == 0 and (residual.grad == 0).all()


def test_residuals_are_negative_on_new_classes() -> None:
    residual = torch.zeros(1, 2, 2, requires_grad=True)
    value = residual_on_new_classes(residual, EVERYWHERE)
    value.backward()
    assert value.item() == pytest.approx(math.log(2)) and (residual.grad > 0).all()


def test_features_are_held_where_nothing_new_is_labelled() -> None:
    new = [torch.randn(1, 3, 2, 2, requires_grad=True) for _ in range(3)]
    old = [torch.randn(1, 3, 2, 2, requires_grad=True) for _ in range(2)]
    mask = torch.tensor([[[True, False], [False, False]]])
    value = background_feature_distillation(new, old, mask)
    expected = sum((a - b)[:, :, 0, 0].square().sum() / 12 for a, b in zip(new, old, strict=False))
    torch.testing.assert_close(value, expected)
    value.backward()
    assert new[2].grad is None and all(x.grad is None for x in old)
    assert all((x.grad[:, :, 0, 1] == 0).all() and (x.grad[:, :, 0, 0] != 0).any() for x in new[:2])


def test_heads_are_held_with_their_background_channels() -> None:
    new = [torch.randn(1, 3, 2, 2, requires_grad=True), torch.randn(1, 2, 2, 2, requires_grad=True)]
    old = [torch.randn(1, 3, 2, 2)]
    group_distillation(new, old).backward()
    torch.testing.assert_close(new[0].grad, (new[0].detach().sigmoid() - old[0].sigmoid()) / 4)
    assert new[1].grad is None


def test_one_prototype_a_class_and_image() -> None:
    features = torch.arange(8.0).view(2, 1, 2, 2)
    labels = torch.tensor([[[0, 1], [1, 255]], [[2, 2], [0, 1]]])
    prototypes, classes = class_prototypes(features, labels.repeat_interleave(3, 1).repeat_interleave(3, 2))
    assert classes.tolist() == [1, 1, 2]
    assert prototypes.flatten().tolist() == [1.5, 7.0, 4.5]
    none, classes = class_prototypes(features, torch.zeros(2, 4, 4, dtype=torch.long))
    assert none.shape == (0, 1) and classes.tolist() == []


def test_labels_beyond_single_precision_survive_the_reduction() -> None:
    labels = torch.tensor([[[255, 7], [2**24 + 1, 0]]])
    assert torch.equal(coarse_labels(labels.repeat_interleave(2, 1), (2, 2)), labels)
