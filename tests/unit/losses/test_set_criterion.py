"""Matching, point sampling and the criterion's rules."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.data.loading.mask_batch import MaskBatch, MaskTargets
from model.losses.mask_losses import dice_loss, mask_cross_entropy
from model.losses.matching import MatchingError, assign, class_cost, cross_entropy_cost, dice_cost
from model.losses.point_sampling import sample_points, undecided_points, uniform_points
from model.losses.query_classification import query_cross_entropy
from model.losses.set_criterion import SetCriterion, mask_count


@dataclass(frozen=True)
class Prediction:
    logits: Tensor
    masks: Tensor


def squares() -> tuple[Prediction, list[MaskTargets]]:
    """Two images of 16×16 with two masks each; query 1 predicts the first one exactly, query 3 the second."""
    masks = torch.zeros(2, 16, 16, dtype=torch.bool)
    masks[0, :8, :8] = True
    masks[1, 8:, 4:12] = True
    logits = torch.zeros(2, 5, 4)
    logits[:, 1, 0] = logits[:, 3, 2] = 9.0
    predicted = torch.full((2, 5, 16, 16), -20.0)
    predicted[:, 1] = torch.where(masks[0], 20.0, -20.0)
    predicted[:, 3] = torch.where(masks[1], 20.0, -20.0)
    return Prediction(logits, predicted), [MaskTargets(torch.tensor([0, 2]), masks)] * 2


def draws(seed: int = 0):
    return uniform_points("cpu", torch.Generator().manual_seed(seed))


def test_the_right_queries_are_matched_and_cost_nothing() -> None:
    prediction, targets = squares()
    everywhere = SetCriterion(points=400, importance=0.0)
    (losses,) = everywhere([prediction], targets, query_cross_entropy, draws())
    for match in losses.matches:
        assert match.queries.tolist() == [1, 3] and match.targets.tolist() == [0, 1]
    assert losses.mask < 0.3 and losses.dice < 0.1
    (undecided,) = SetCriterion(points=400)([prediction], targets, query_cross_entropy, draws())
    assert undecided.mask > 1.5 * losses.mask  # the points gather along the borders


def test_labels_of_unmatched_queries_are_no_object() -> None:
    prediction, targets = squares()
    given: list[Tensor] = []

    def class_loss(logits: Tensor, labels: Tensor) -> Tensor:
        given.append(labels)
        return logits.sum()

    SetCriterion(points=50)([prediction], targets, class_loss, draws())
    assert given[0].tolist() == [[3, 0, 3, 2, 3]] * 2


def test_every_set_of_predictions_is_matched_by_itself() -> None:
    prediction, targets = squares()
    turned = Prediction(prediction.logits.flip(1), prediction.masks.flip(1))
    first, last = SetCriterion(points=50)([turned, prediction], targets, query_cross_entropy, draws())
    assert first.matches[0].queries.tolist() == [1, 3] and first.matches[0].targets.tolist() == [1, 0]
    assert last.matches[0].targets.tolist() == [0, 1]


@dataclass
class NotedDraws:
    """Points from a generator, and what was asked for."""

    asked: list[tuple[int, int]]

    def __call__(self, sets: int, points: int) -> Tensor:
        self.asked.append((sets, points))
        generator = torch.Generator().manual_seed(len(self.asked))
        return torch.rand(sets, points, 2, generator=generator, dtype=torch.float64)


@settings(max_examples=20, deadline=None)
@given(counts=st.lists(st.integers(0, 6), min_size=1, max_size=3), layers=st.integers(1, 3), seed=st.integers(0, 99))
def test_layers_and_images_do_not_influence_each_other(counts: list[int], layers: int, seed: int) -> None:
    """All of them are compared at once; each costs what it costs alone, at the same points."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    predictions = [Prediction(normal(len(counts), 4, 4), normal(len(counts), 4, 8, 8)) for _ in range(layers)]
    targets = [MaskTargets(torch.randint(0, 3, (n,), generator=generator), normal(n, 16, 16) > 0) for n in counts]
    criterion, noted = SetCriterion(points=20), NotedDraws([])
    together = criterion(predictions, targets, query_cross_entropy, noted)
    order = [layers - 1, *range(layers - 1)]  # the last set of predictions draws first
    per_layer = len(noted.asked) // layers
    for place, layer in enumerate(order):
        again = Prediction(predictions[layer].logits, predictions[layer].masks)
        rest = NotedDraws(list(noted.asked[: place * per_layer]))
        (alone,) = criterion([again], targets, query_cross_entropy, rest)
        for name in ("classification", "mask", "dice"):
            torch.testing.assert_close(getattr(together[layer], name), getattr(alone, name))
        for image, (mine, other) in enumerate(zip(together[layer].matches, alone.matches, strict=True)):
            assert mine.queries.tolist() == other.queries.tolist() and mine.targets.tolist() == other.targets.tolist()
            assert len(mine.queries) == min(4, counts[image])


def test_the_same_draws_give_the_same_losses() -> None:
    prediction, targets = squares()
    noisy = Prediction(torch.randn_like(prediction.logits), torch.randn_like(prediction.masks))
    losses = [SetCriterion(points=30)([noisy], targets, query_cross_entropy, draws(4))[0] for _ in range(2)]
    assert losses[0].mask == losses[1].mask and losses[0].dice == losses[1].dice


def test_images_without_targets_only_push_towards_no_object() -> None:
    logits = torch.zeros(1, 5, 4, requires_grad=True)
    masks = torch.zeros(1, 5, 4, 4, requires_grad=True)
    nothing = MaskTargets(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 16, 16, dtype=torch.bool))
    (losses,) = SetCriterion(points=9)([Prediction(logits, masks)], [nothing], query_cross_entropy, draws())
    assert losses.mask == losses.dice == 0
    (losses.classification + losses.mask + losses.dice).backward()
    assert (logits.grad[..., 3] < 0).all() and (logits.grad[..., :3] > 0).all()
    assert masks.grad.abs().sum() == 0


def test_empty_target_masks_keep_their_query() -> None:
    prediction, (targets, _) = squares()
    empty = targets.followed_by(MaskTargets(torch.tensor([1]), torch.zeros(1, 16, 16, dtype=torch.bool)))
    alone = Prediction(prediction.logits[:1], prediction.masks[:1])
    (losses,) = SetCriterion(points=50)([alone], [empty], query_cross_entropy, draws())
    assert len(losses.matches[0].queries) == 3
    assert mask_count([empty]) == 3


def test_the_normaliser_is_at_least_one() -> None:
    nothing = MaskTargets(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 2, 2, dtype=torch.bool))
    assert mask_count([nothing, nothing]) == 1


def test_half_precision_predictions_are_judged_in_single_precision() -> None:
    prediction, targets = squares()
    half = Prediction(prediction.logits.bfloat16(), prediction.masks.bfloat16())
    with torch.autocast("cpu", torch.bfloat16):
        (losses,) = SetCriterion(points=50)([half], targets, query_cross_entropy, draws())
    assert losses.mask.dtype == losses.dice.dtype == losses.classification.dtype == torch.float32


@settings(max_examples=30, deadline=None)
@given(queries=st.integers(1, 7), targets=st.integers(0, 7), seed=st.integers(0, 1000))
def test_an_assignment_is_one_to_one_and_as_large_as_possible(queries: int, targets: int, seed: int) -> None:
    cost = torch.randn(queries, targets, generator=torch.Generator().manual_seed(seed))
    (match,) = assign([cost])
    assert len(match.queries) == len(match.targets) == min(queries, targets)
    assert len(set(match.targets.tolist())) == len(match.targets)
    assert match.queries.tolist() == sorted(set(match.queries.tolist()))


def test_costs_that_are_not_finite_name_the_image() -> None:
    good, bad = torch.zeros(2, 2), torch.tensor([[0.0, float("nan")]])
    with pytest.raises(MatchingError, match="image 'street_17'"):
        assign([good, bad], ["house_3", "street_17"])


def test_pairwise_costs_are_the_losses_of_each_pair() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 20, generator=generator, dtype=torch.float64)
    targets = torch.rand(2, 20, generator=generator, dtype=torch.float64)
    for q in range(3):
        for n in range(2):
            pair = logits[q : q + 1], targets[n : n + 1], 1.0
            torch.testing.assert_close(cross_entropy_cost(logits, targets)[q, n], mask_cross_entropy(*pair))
            sure = logits.sigmoid()
            loss = dice_loss(sure[q : q + 1], targets[n : n + 1], 1.0)
            torch.testing.assert_close(dice_cost(sure, targets)[q, n], loss)
    classes = torch.randn(3, 5, generator=generator)
    torch.testing.assert_close(class_cost(classes, torch.tensor([4, 1]))[2, 1], -classes[2].softmax(0)[1])


def test_cross_entropy_cost_survives_large_logits() -> None:
    cost = cross_entropy_cost(torch.tensor([[1e4, -1e4]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    assert cost.tolist() == [[0.0, 1e4]]


def test_no_object_counts_a_tenth() -> None:
    logits, labels = torch.randn(2, 3, 4), torch.tensor([[0, 3, 3], [3, 2, 3]])
    losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
    weights = torch.where(labels.flatten() == 3, 0.1, 1.0)
    torch.testing.assert_close(query_cross_entropy(logits, labels), (weights * losses).sum() / weights.sum())


def test_samples_at_pixel_centres_are_the_pixels() -> None:
    maps = torch.arange(12.0).view(1, 1, 3, 4)
    points = torch.tensor([[[0.5 / 4, 0.5 / 3], [3.5 / 4, 2.5 / 3], [1.5 / 4, 1.5 / 3]]])
    torch.testing.assert_close(sample_points(maps, points)[0, 0], torch.tensor([0.0, 11.0, 5.0]))


def test_most_points_go_where_the_mask_is_undecided() -> None:
    masks = torch.full((1, 1, 32, 32), 8.0)
    masks[..., :16] = -8.0  # undecided along the middle column
    points = undecided_points(masks, 400, draws())
    near = (sample_points(masks, points)[0, 0].abs() < 7.9).sum()
    uniform = sample_points(masks, draws()(1, 400))[0, 0]
    assert points.shape == (1, 400, 2) and near > 2 * (uniform.abs() < 7.9).sum()


def test_targets_and_batches_check_and_move() -> None:
    with pytest.raises(ValueError, match="labels"):
        MaskTargets(torch.zeros(2, dtype=torch.int64), torch.zeros(3, 4, 4, dtype=torch.bool))
    targets = MaskTargets(torch.tensor([1]), torch.ones(1, 4, 4, dtype=torch.bool))
    batch = MaskBatch(torch.zeros(1, 3, 4, 4), (targets,), ((4, 4),), ("a",), torch.tensor([False]))
    moved = batch.to("meta")
    assert moved.images.device.type == moved.labels[0].masks.device.type == moved.from_memory.device.type == "meta"
    assert len(batch) == 1
