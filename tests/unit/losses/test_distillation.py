"""Distillation losses: what their formulas promise."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.losses.distillation import (
    feature_distillation,
    knowledge_distillation,
    replaced_target_cross_entropy,
    sigmoid_distillation,
    unbiased_knowledge_distillation,
)

seeds = st.integers(0, 2**31 - 1)
sizes = st.tuples(st.integers(1, 5), st.integers(0, 4))  # old channels, new channels


def draw(seed: int, old: int, new: int) -> tuple[Tensor, Tensor]:
    """Logits (2, old + new, 3, 4) and old logits (2, old, 3, 4)."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(2, old + new, 3, 4, generator=generator, dtype=torch.float64)
    return logits, 2 * torch.randn(2, old, 3, 4, generator=generator, dtype=torch.float64)


def spread_background(old_logits: Tensor, new: int) -> Tensor:
    """Logits whose background and new classes share the old background's probability evenly."""
    share = old_logits[:, :1] - torch.log(torch.tensor(new + 1.0, dtype=old_logits.dtype))
    return torch.cat([share, old_logits[:, 1:], share.expand(-1, new, -1, -1)], dim=1)


@settings(max_examples=40, deadline=None)
@given(seed=seeds, size=sizes)
def test_distillation_is_smallest_at_equality(seed, size) -> None:
    logits, old_logits = draw(seed, *size)
    old, _ = size
    equal = torch.cat([old_logits, logits[:, old:]], dim=1)
    assert knowledge_distillation(equal, old_logits) <= knowledge_distillation(logits, old_logits) + 1e-12
    equal.requires_grad_()
    knowledge_distillation(equal, old_logits).backward()
    torch.testing.assert_close(equal.grad, torch.zeros_like(equal.grad))


@settings(max_examples=40, deadline=None)
@given(seed=seeds, size=sizes)
def test_unbiased_distillation_is_smallest_where_new_classes_come_out_of_the_background(seed, size) -> None:
    logits, old_logits = draw(seed, *size)
    agreeing = spread_background(old_logits, size[1]).requires_grad_()
    best = unbiased_knowledge_distillation(agreeing, old_logits)
    assert best <= unbiased_knowledge_distillation(logits, old_logits) + 1e-12
    best.backward()
    torch.testing.assert_close(agreeing.grad, torch.zeros_like(agreeing.grad))


@settings(max_examples=20, deadline=None)
@given(seed=seeds, old=st.integers(1, 5))
def test_without_new_classes_both_distillations_are_the_same(seed, old) -> None:
    logits, old_logits = draw(seed, old, 0)
    torch.testing.assert_close(
        unbiased_knowledge_distillation(logits, old_logits), knowledge_distillation(logits, old_logits)
    )


def test_no_gradient_reaches_the_new_classes() -> None:
    logits, old_logits = draw(0, 3, 2)
    for loss in (knowledge_distillation, sigmoid_distillation):
        leaf = logits.clone().requires_grad_()
        loss(leaf, old_logits).backward()
        assert leaf.grad[:, 3:].abs().max() == 0
        assert leaf.grad[:, :3].abs().max() > 0


def test_unbiased_distillation_reaches_the_new_classes() -> None:
    logits, old_logits = draw(0, 3, 2)
    logits.requires_grad_()
    unbiased_knowledge_distillation(logits, old_logits).backward()
    assert logits.grad[:, 3:].abs().max() > 0


LOSSES = {
    "kd": knowledge_distillation,
    "unbiased": unbiased_knowledge_distillation,
    "sigmoid": sigmoid_distillation,
    "replaced": lambda z, old: replaced_target_cross_entropy(z, old, torch.zeros(2, 3, 4, dtype=torch.long)),
    "features": lambda z, old: feature_distillation(z[:, : old.shape[1]], old),
    "cosine": lambda z, old: feature_distillation(z[:, : old.shape[1]], old, cosine=True),
}


@pytest.mark.parametrize("name", LOSSES)
def test_no_gradient_flows_into_the_old_network(name) -> None:
    logits, old_logits = draw(0, 3, 2)
    logits.requires_grad_()
    old_logits.requires_grad_()
    LOSSES[name](logits, old_logits).backward()
    assert old_logits.grad is None
    assert logits.grad is not None


@pytest.mark.parametrize("name", ["kd", "unbiased", "sigmoid", "replaced"])
@pytest.mark.parametrize("shape", [(2, 6, 3, 4), (1, 3, 3, 4), (2, 3, 3, 5)], ids=["channels", "images", "size"])
def test_maps_that_cannot_be_compared(name, shape) -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        LOSSES[name](draw(0, 3, 2)[0], torch.zeros(shape, dtype=torch.float64))


def test_distillation_is_divided_by_the_number_of_old_classes() -> None:
    logits, old_logits = draw(0, 4, 1)
    p_old, log_p = old_logits.softmax(1), logits[:, :4].log_softmax(1)
    expected = -(p_old * log_p).sum(dim=1).mean() / 4
    torch.testing.assert_close(knowledge_distillation(logits, old_logits), expected)


@pytest.mark.parametrize("loss", [knowledge_distillation, unbiased_knowledge_distillation])
def test_masked_pixels_count_in_the_mean(loss) -> None:
    logits, old_logits = draw(0, 3, 2)
    mask = torch.zeros(2, 3, 4)
    mask[0, 0] = 1
    pixels = loss(logits, old_logits, reduction="none")
    expected = pixels[0, 0].sum() / 24
    torch.testing.assert_close(loss(logits, old_logits, mask=mask), expected)
    torch.testing.assert_close(loss(logits, old_logits, mask=mask, reduction="sum"), expected * 24)


def test_a_large_scale_makes_the_target_one_hot() -> None:
    logits, old_logits = draw(0, 3, 2)
    hard = old_logits.argmax(dim=1, keepdim=True)
    expected = -logits[:, :3].log_softmax(1).gather(1, hard).mean() / 3
    torch.testing.assert_close(knowledge_distillation(logits, old_logits, old_scale=1e6), expected)


def test_sigmoid_distillation_is_a_sum_over_channels() -> None:
    logits = torch.zeros(1, 5, 2, 2, dtype=torch.float64)
    expected = 4 * torch.tensor(2.0, dtype=torch.float64).log()
    torch.testing.assert_close(sigmoid_distillation(logits, torch.zeros(1, 4, 2, 2, dtype=torch.float64)), expected)


def test_replaced_targets() -> None:
    logits, old_logits = draw(0, 2, 2)
    labels = torch.full((2, 3, 4), 3)
    targets = torch.cat([old_logits.sigmoid(), torch.zeros(2, 1, 3, 4), torch.ones(2, 1, 3, 4)], dim=1)
    entropy = -(targets * logits.sigmoid().log() + (1 - targets) * (-logits).sigmoid().log())
    torch.testing.assert_close(replaced_target_cross_entropy(logits, old_logits, labels), entropy.sum(1).mean())
    targets[:, 0] = 0  # a hard background: these pixels are class 3
    entropy = -(targets * logits.sigmoid().log() + (1 - targets) * (-logits).sigmoid().log())
    hard = replaced_target_cross_entropy(logits, old_logits, labels, hard_background=True)
    torch.testing.assert_close(hard, entropy.sum(1).mean())


@pytest.mark.parametrize("cosine", [False, True])
def test_features_outside_the_region_are_free(cosine) -> None:
    features, old_features = draw(0, 4, 0)
    region = torch.zeros(2, 3, 4, dtype=torch.bool)
    region[0, 1:] = True
    features.requires_grad_()
    value = feature_distillation(features, old_features, region, cosine=cosine)
    (gradient,) = torch.autograd.grad(value, features)
    assert torch.equal(gradient.abs().sum(dim=1) > 0, region)
    alone = feature_distillation(features[:1, :, 1:], old_features[:1, :, 1:], cosine=cosine)
    torch.testing.assert_close(value, alone)
    assert feature_distillation(features, old_features, region & False, cosine=cosine) == 0


def test_the_cosine_does_not_see_the_length_of_features() -> None:
    features, old_features = draw(0, 4, 0)
    values = [feature_distillation(scale * features, old_features, cosine=True) for scale in (1, 9)]
    torch.testing.assert_close(*values)
    assert feature_distillation(3 * old_features, old_features, cosine=True) < 1e-12
