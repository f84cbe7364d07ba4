"""Masks that are enlarged only where it matters: the same answers as from the released order of operations."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.evaluation.evaluators.mask_prediction import ResizedMasks
from model.methods.mask.finetuning import MaskFinetuning
from model.methods.mask.simcis import SimCIS
from model.networks.mask2former.assembly import Candidates, assemble_panoptic, best_instances, sure_queries

PADDED = (64, 96)
ACTIVATIONS = ("sigmoid", "softmax")


def resized(seed: int, queries: int, activation: str, size: tuple[int, int]) -> ResizedMasks:
    generator = torch.Generator().manual_seed(seed)
    logits = 6 * torch.randn(queries, 16, 24, generator=generator)
    return ResizedMasks(logits, PADDED, (50, 90), size, activation)  # type: ignore[arg-type]


def released_panoptic(candidates: Candidates, things: Tensor, threshold: float) -> tuple[Tensor, list[tuple[int, int]]]:
    """Query after query, as the released code paints them: the map, and id and class of each segment."""
    ids = torch.zeros(candidates.masks.shape[1:], dtype=torch.int32)
    found: list[tuple[int, int]] = []
    stuff: dict[int, int] = {}
    if len(candidates.labels) == 0:
        return ids, found
    owner = (candidates.scores.view(-1, 1, 1) * candidates.masks).argmax(0)
    for query, label in enumerate(candidates.labels.tolist()):
        mask = candidates.masks[query] >= 0.5
        won, original, both = int((owner == query).sum()), int(mask.sum()), (owner == query) & mask
        if won == 0 or original == 0 or int(both.sum()) == 0 or won / original < threshold:
            continue
        if not things[label] and label in stuff:
            ids[both] = stuff[label]
            continue
        found.append((len(found) + 1, label))
        stuff |= {} if things[label] else {label: len(found)}
        ids[both] = len(found)
    return ids, found


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    queries=st.integers(1, 12),
    object_threshold=st.floats(0, 0.95),
    overlap_threshold=st.floats(0, 0.9),
    activation=st.sampled_from(ACTIVATIONS),
    size=st.sampled_from([(50, 90), (33, 47), (100, 180)]),
)
def test_dropping_queries_first_gives_the_same_panoptic_map(
    seed: int,
    queries: int,
    object_threshold: float,
    overlap_threshold: float,
    activation: str,
    size: tuple[int, int],
) -> None:
    masks = resized(seed, queries, activation, size)
    classes = (4 * torch.randn(queries, 5, generator=torch.Generator().manual_seed(seed + 1))).softmax(-1)
    things = torch.tensor([True, True, False, False])
    ids, segments = assemble_panoptic(sure_queries(classes, masks, object_threshold), things, overlap_threshold)
    expected, found = released_panoptic(sure_queries(classes, masks[:], object_threshold), things, overlap_threshold)
    assert torch.equal(ids, expected)
    assert [(segment.id, segment.category) for segment in segments] == found


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("number", range(6))
def test_a_mask_does_not_depend_on_which_others_are_asked_for(activation: str, number: int) -> None:
    masks = resized(0, 6, activation, (100, 180))
    chosen = torch.arange(6) < number
    assert torch.equal(masks[chosen], masks[:][chosen])
    assert masks.shape == masks[:].shape


@pytest.mark.parametrize("method", [MaskFinetuning(object_threshold=0.3), SimCIS()], ids=["softmax", "sigmoid"])
@pytest.mark.parametrize("seed", range(5))
def test_every_answer_is_that_of_all_masks(method: MaskFinetuning | SimCIS, seed: int) -> None:
    masks, things = resized(seed, 8, "sigmoid", (60, 70)), torch.tensor([True, False, True])
    logits = 3 * torch.randn(8, 4, generator=torch.Generator().manual_seed(seed + 1))
    (ids, segments), (whole_ids, whole_segments) = (method.panoptic(logits, m, things) for m in (masks, masks[:]))
    assert segments == whole_segments and torch.equal(ids, whole_ids)
    assert torch.equal(method.semantic(logits, masks), method.semantic(logits, masks[:]))
    few, all_masks = method.instances(logits, masks, things), method.instances(logits, masks[:], things)
    assert torch.equal(few.masks, all_masks.masks) and torch.equal(few.classes, all_masks.classes)
    torch.testing.assert_close(few.scores, all_masks.scores)


def test_instances_enlarge_no_query_twice_and_none_that_is_not_reported() -> None:
    asked: list[int] = []

    class Counting(ResizedMasks):
        def __getitem__(self, queries: Tensor) -> Tensor:
            asked.extend(torch.arange(len(self.logits))[queries].tolist())
            return super().__getitem__(queries)

    masks = Counting(torch.randn(3, 16, 24), PADDED, (50, 90), (50, 90), "sigmoid")
    classes = torch.tensor([[0.9, 0.8], [0.1, 0.7], [0.2, 0.1]])
    found = best_instances(classes, masks, limit=3)
    assert sorted(asked) == [0, 1] and len(found.classes) == 3
    asked.clear()
    assert best_instances(classes, masks, limit=3, things=torch.tensor([True, False])).classes.tolist() == [0]
    assert asked == [0]
