"""What the three readings of a prediction promise."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.networks.mask2former.assembly import (
    Segment,
    assemble_panoptic,
    assemble_semantic,
    best_instances,
    claimed_regions,
    resize_labels,
    semantic_votes,
    strongest,
    sure_queries,
)
from model.networks.mask2former.padding import resize_masks


def panoptic(
    logits: torch.Tensor, masks: torch.Tensor, things: torch.Tensor, object_threshold: float, overlap_threshold: float
) -> tuple[torch.Tensor, list[Segment]]:
    return assemble_panoptic(sure_queries(logits.softmax(-1), masks, object_threshold), things, overlap_threshold)


def random_prediction(seed: int, queries: int = 8, classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        3 * torch.randn(queries, classes + 1, generator=generator),
        (4 * torch.randn(queries, 6, 7, generator=generator)).sigmoid(),
    )


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), object_threshold=st.floats(0, 0.9), overlap_threshold=st.floats(0, 0.9))
def test_panoptic_maps_and_segments_agree(seed: int, object_threshold: float, overlap_threshold: float) -> None:
    logits, masks = random_prediction(seed)
    things = torch.tensor([True, True, False, False])
    ids, segments = panoptic(logits, masks, things, object_threshold, overlap_threshold)
    assert [segment.id for segment in segments] == list(range(1, len(segments) + 1))
    present = set(ids.unique().tolist()) - {0}
    assert present == {segment.id for segment in segments}
    stuff = [segment.category for segment in segments if not segment.isthing]
    assert len(stuff) == len(set(stuff))
    assert all(bool(things[segment.category]) == segment.isthing for segment in segments)


def test_no_object_and_doubtful_queries_leave_nothing() -> None:
    logits = torch.tensor([[0.0, 0.0, 9.0], [0.1, 0.0, 0.0]])
    ids, segments = panoptic(logits, torch.full((2, 3, 3), 0.99), torch.tensor([True, True]), 0.8, 0.8)
    assert segments == [] and ids.abs().sum() == 0


def test_a_query_that_loses_most_of_its_mask_is_dropped() -> None:
    logits = torch.tensor([[9.0, 0.0, 0.0], [0.0, 8.0, 0.0]])
    masks = torch.zeros(2, 2, 10)
    masks[0, :, :8] = 1.0  # wins
    masks[1] = 0.99  # claims everything, keeps a fifth
    things = torch.tensor([True, True])
    assert [s.category for s in panoptic(logits, masks, things, 0.5, 0.3)[1]] == [0]
    assert [s.category for s in panoptic(logits, masks, things, 0.5, 0.2)[1]] == [0, 1]


def test_semantic_scores_are_votes() -> None:
    logits, masks = random_prediction(3)
    scores = semantic_votes(logits.softmax(-1)[:, :-1], masks)
    one = sum(logits.softmax(-1)[q, 2] * masks[q, 1, 5] for q in range(8))
    torch.testing.assert_close(scores[2, 1, 5], one)
    assert scores.shape == (4, 6, 7)


def test_instances_may_repeat_a_query_and_are_sorted() -> None:
    logits, masks = torch.tensor([[2.0, 1.9, -9.0]]), torch.full((1, 2, 2), 0.9)
    instances = best_instances(logits.softmax(-1)[:, :-1], masks, limit=100)
    assert instances.classes.tolist() == [0, 1]
    assert (instances.scores[0] > instances.scores[1]).item()
    assert instances.masks.all()


def test_stuff_is_dropped_after_the_best_pairs_are_taken() -> None:
    logits, masks = torch.tensor([[2.0, 1.0, -9.0]]), torch.full((1, 2, 2), 0.9)
    things = torch.tensor([False, True])
    assert len(best_instances(logits.softmax(-1)[:, :-1], masks, limit=1, things=things).classes) == 0
    assert best_instances(logits.softmax(-1)[:, :-1], masks, limit=2, things=things).classes.tolist() == [1]


def test_an_instance_without_pixels_scores_zero() -> None:
    instances = best_instances(torch.tensor([[0.7]]), torch.full((1, 2, 2), 0.1), 100)
    assert instances.scores.tolist() == [0.0] and not instances.masks.any()


def test_masks_return_to_the_original_size_without_the_padding() -> None:
    masks = torch.full((1, 8, 8), -5.0)
    masks[:, :4, :4] = 5.0  # the image fills a quarter of the padded square
    resized = resize_masks(masks, (32, 32), (16, 16), (50, 60))
    assert resized.shape == (1, 50, 60)
    assert (resized[:, :40, :50] > 0).all()


def test_a_query_that_wins_much_more_than_its_mask_may_be_dropped() -> None:
    masks = torch.full((1, 2, 10), 0.3)
    masks[:, :, :4] = 0.9  # its mask is two fifths of what nobody else wants
    candidates = sure_queries(torch.tensor([[0.9, 0.1]]), masks, 0.5)
    assert claimed_regions(candidates, 0.8).kept == (0,)
    assert claimed_regions(candidates, 0.8, excess_threshold=0.8).kept == ()


def test_regions_leave_pixels_without_a_label_at_every_size() -> None:
    masks = torch.zeros(1, 4, 4)
    masks[:, :, :2] = 1.0
    labels = assemble_semantic(sure_queries(torch.tensor([[0.0, 0.9, 0.1]]), masks, 0.5), 0.8)
    assert labels.tolist() == [[2, 2, 0, 0]] * 4
    assert resize_labels(labels, 2, (4, 4)) is labels
    assert resize_labels(labels, 2, (8, 8)).tolist() == [[2] * 4 + [0] * 4] * 8


@given(seed=st.integers(0, 10_000), queries=st.integers(1, 6))
def test_a_pixel_belongs_to_the_first_of_the_strongest_queries(seed: int, queries: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(1, 3, (queries,), generator=generator) / 2
    masks = torch.randint(0, 3, (queries, 5, 6), generator=generator) / 2  # few values, many of them equal
    assert torch.equal(strongest(scores, masks), (scores[:, None, None] * masks).argmax(dim=0))
