"""The class losses of queries, and masks that share out the pixels."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from model.data.loading.mask_batch import MaskTargets
from model.losses.class_distillation import class_distillation, focal_class_distillation, query_divergence
from model.losses.mask_activation import mask_probabilities
from model.losses.matching import harmonic_cost
from model.losses.point_sampling import uniform_points
from model.losses.query_classification import QueryClassification, query_cross_entropy, softmax_focal_loss
from model.losses.softmax_criterion import SoftmaxSetCriterion
from model.networks.mask2former.decoder import attention_mask
from model.networks.mask2former.outputs import MaskPrediction


def random_logits(seed: int, channels: int = 6) -> Tensor:
    return 3 * torch.randn(2, 7, channels, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_shares_sum_to_one_and_sigmoids_do_not() -> None:
    masks = torch.randn(3, 5, 4, 4)
    torch.testing.assert_close(mask_probabilities(masks, "softmax").sum(dim=1), torch.ones(3, 4, 4))
    assert torch.equal(mask_probabilities(masks, "sigmoid"), masks.sigmoid())
    assert torch.equal(mask_probabilities(masks[0], "softmax"), masks[0].softmax(dim=0))


def test_a_query_looks_where_it_has_most_of_the_pixel() -> None:
    masks = torch.tensor([3.0, 1.0, 0.0]).view(1, 3, 1, 1).repeat(1, 1, 2, 2)
    masks[0, :, 0, 0] = torch.tensor([0.0, 0.0, 9.0])
    allowed = attention_mask(masks, (2, 2), "softmax")
    assert allowed[0].tolist() == [[False, True, True, True], [True] * 4, [True, False, False, False]]
    assert attention_mask(masks, (2, 2), "sigmoid")[0, :, 1:].all()  # no logit is negative


@given(seed=st.integers(0, 1000))
def test_a_focal_loss_without_focus_is_the_cross_entropy(seed: int) -> None:
    logits, labels = random_logits(seed), torch.randint(0, 6, (2, 7), generator=torch.Generator().manual_seed(seed))
    plain = query_cross_entropy(logits, labels, no_object_weight=1.0)
    torch.testing.assert_close(softmax_focal_loss(logits, labels, alpha=1.0, gamma=0.0), plain)
    assert softmax_focal_loss(logits, labels, alpha=1.0, gamma=2.0) < plain


def test_old_classes_count_as_no_object() -> None:
    logits, nothing = torch.zeros(1, 1, 4), torch.tensor([[3]])
    logits[..., 0] = 9.0
    assert query_cross_entropy(logits, nothing, old_classes=2) < 0.01 < query_cross_entropy(logits, nothing)
    new = torch.tensor([[2]])
    assert query_cross_entropy(logits, new, old_classes=2) == query_cross_entropy(logits, new)


def test_the_class_loss_is_a_property_of_the_network() -> None:
    logits, labels = random_logits(0), torch.full((2, 7), 5)
    focal = QueryClassification("focal", alpha=5.0, gamma=1.0)
    assert focal(logits, labels, no_object_weight=0.1) == focal(logits, labels, no_object_weight=1.0)
    assert torch.equal(focal(logits, labels), softmax_focal_loss(logits, labels, 5.0, 1.0))
    assert torch.equal(QueryClassification()(logits, labels), query_cross_entropy(logits, labels))


@given(seed=st.integers(0, 1000), kind=st.sampled_from(["no-object", "removed", "ignored"]))
def test_distances_from_the_old_model(seed: int, kind: str) -> None:
    logits, old = random_logits(seed), random_logits(seed + 1, 4)
    divergence = query_divergence(logits, old, kind)  # type: ignore[arg-type]
    assert divergence.shape == (2, 7) and (divergence >= -1e-12).all()
    assert focal_class_distillation(logits, old, kind) <= divergence.mean()  # type: ignore[arg-type]


def test_removed_classes_leave_an_unchanged_network_at_zero() -> None:
    old = random_logits(3, 4)
    new = torch.cat([old[..., :3], random_logits(4, 2), old[..., 3:]], dim=-1)
    torch.testing.assert_close(query_divergence(new, old, "removed"), torch.zeros(2, 7, dtype=torch.float64))
    assert (query_divergence(new, old, "ignored") > 0).all()


def test_queries_that_were_no_object_weigh_less_and_a_batch_without_objects_nothing() -> None:
    old = torch.zeros(1, 2, 3)
    old[0, 0, 2] = 9.0  # surely nothing
    logits = torch.zeros(1, 2, 4)
    logits[0, 0, 0] = 5.0  # moved away from that
    assert class_distillation(logits, old) < class_distillation(logits, old, reweighted=False)
    old[..., 2] = 1e4
    assert class_distillation(logits, old) == 0


def test_a_pair_has_to_be_good_in_both() -> None:
    cost = harmonic_cost(torch.tensor([[1.0, 0.5, 1.0]]), torch.tensor([[1.0, 0.5, 0.01]]))
    assert cost[0, 0] == -1 and cost[0, 0] < cost[0, 1] < cost[0, 2]


def test_masks_that_share_out_the_pixels_are_matched_and_cost_nothing_where_they_are_right() -> None:
    wanted = torch.zeros(2, 16, 16, dtype=torch.bool)
    wanted[0, :8], wanted[1, 8:] = True, True
    masks = torch.full((1, 4, 16, 16), -20.0)
    masks[0, 2], masks[0, 0] = torch.where(wanted[0], 20.0, -20.0), torch.where(wanted[1], 20.0, -20.0)
    logits = torch.zeros(1, 4, 4)
    logits[0, 2, 1] = logits[0, 0, 2] = 20.0
    targets = [MaskTargets(torch.tensor([1, 2]), wanted)]
    draw = uniform_points("cpu", torch.Generator().manual_seed(0))
    criterion = SoftmaxSetCriterion(points=50, importance=0.0)  # points at the edge are between two masks
    (losses,) = criterion([MaskPrediction(logits, masks)], targets, criterion.classification, draw)
    assert losses.matches[0].queries.tolist() == [0, 2] and losses.matches[0].targets.tolist() == [1, 0]
    assert losses.mask.item() == pytest.approx(0, abs=0.5) and losses.dice.item() == pytest.approx(0, abs=0.1)
