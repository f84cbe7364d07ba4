"""SimCIS on a small network: its bank, what it is held to, and how its predictions are read."""

from __future__ import annotations

import copy
from typing import Any, Literal

import pytest
import torch
from contexts import step_context
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from model.data.loading.mask_batch import MaskBatch, MaskTargets
from model.losses.boxes import generalised_overlap, mask_boxes
from model.losses.mask_pseudo_targets import certain_predictions, sharpened, united
from model.losses.query_focal import summed_focal_loss
from model.methods.base import MethodError
from model.methods.mask.query_bank import (
    class_weights,
    draw_virtual,
    empty_bank,
    grown_bank,
    store,
    trimmed_bank,
)
from model.methods.mask.simcis import SimCIS, SimCISFinetuning
from model.methods.registry import build
from model.networks.mask2former.box_positions import encoded, moved, proposals
from model.networks.mask2former.selecting_network import Comparison, SelectingMask2Former, VirtualQueries, build_simcis
from model.scenario import Scenario, Step

CPU = torch.device("cpu")
BASE = Step(0, (), (10, 11, 12))
STEP = Step(1, past=(10, 11, 12), current=(13, 14))


def network(classes: int = 6, **arguments: Any) -> SelectingMask2Former:
    torch.manual_seed(0)
    return build_simcis(
        [3], classes=classes, backbone="tiny", norm="gn", channels=32, queries=8, encoder_layers=1, encoder_heads=4,
        encoder_feed_forward=32, decoder_layers=3, decoder_heads=4, decoder_feed_forward=32, points=64, **arguments,
    )  # fmt: skip


def images(*labels: int, leaked: bool = False) -> MaskBatch:
    """Two images with a stripe for each label."""
    masks = torch.zeros(len(labels), 64, 64, dtype=torch.bool)
    for index in range(len(labels)):
        masks[index, 16 * index : 16 * (index + 1)] = True
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    truth = (MaskTargets(torch.tensor(labels, dtype=torch.int64), masks),) * 2
    return MaskBatch(pixels, truth, ((64, 64),) * 2, ("a", "b"), torch.zeros(2, dtype=torch.bool), leaked)


def one_step(
    method: SimCIS, new: SelectingMask2Former, old: SelectingMask2Former | None, step: Step, batch: MaskBatch
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The terms of one batch and the state behind it."""
    torch.manual_seed(5)
    context = step_context(step, new, old_model=old, batches=[batch])
    state = method.before_step(context)
    if step.index:  # as if the base step had filled it
        store(state["bank"], torch.randn(30, 32), torch.arange(30) % 3)
    context = step_context(step, new, old_model=old, state=state)
    old_outputs = None
    if old is not None:
        with torch.no_grad():
            old_outputs = old(batch.images)
    outputs = method.forward(context, batch, old_outputs)
    return method.losses(context, batch, outputs, old_outputs, method.targets(context, batch, old_outputs)), state


# ------------------------------------------------------------------------------------------------------------------- bank


def vectors_held(bank: dict[str, torch.Tensor]) -> list[int]:
    """Number of vectors of every class."""
    return bank["stored"].clamp(max=bank["vectors"].shape[1]).tolist()


@given(st.lists(st.integers(0, 3), max_size=40), st.integers(1, 5), st.integers(1, 7))
def test_a_ring_holds_the_last_vectors_of_its_class(labels: list[int], size: int, portion: int) -> None:
    bank = empty_bank(4, size, 1, CPU)
    for start in range(0, len(labels), portion):
        part = labels[start : start + portion]
        store(bank, torch.arange(start, start + len(part)).float()[:, None], torch.tensor(part, dtype=torch.int64))
    for label in range(4):
        expected = [place for place, one in enumerate(labels) if one == label][-size:]
        held = bank["vectors"][label, : vectors_held(bank)[label], 0].tolist()
        assert sorted(held) == expected


def test_rare_classes_are_drawn_more_often_and_classes_without_a_vector_never() -> None:
    assert class_weights(torch.tensor([0, 3, 3]), 0.5).tolist() == pytest.approx([3.0, 1.5, 1.5])
    bank = empty_bank(4, 2, 3, CPU)
    store(bank, torch.ones(1, 3), torch.tensor([1]))
    store(bank, 2 * torch.ones(1, 3), torch.tensor([3]))  # of a class that is not drawn from: it is new
    drawn = draw_virtual(bank, torch.ones(3), 2, 5)
    assert drawn is not None
    vectors, labels = drawn
    assert vectors.shape == (2, 5, 3) and (labels == 1).all() and (vectors == 1).all()
    assert draw_virtual(empty_bank(4, 2, 3, CPU), torch.ones(3), 2, 5) is None


def test_what_is_carried_on_is_that_of_the_classes_learnt() -> None:
    bank = empty_bank(6, 2, 3, CPU)
    store(bank, torch.arange(9.0).view(3, 3), torch.tensor([0, 2, 2]))
    carried = trimmed_bank(bank, 3)
    assert carried["vectors"].shape == (3, 2, 3) and carried["vectors"].dtype == torch.float16
    again = grown_bank(carried, 6)
    assert torch.equal(again["vectors"], bank["vectors"]) and torch.equal(again["stored"], bank["stored"])


# ---------------------------------------------------------------------------------------------------------------- network


def test_the_chosen_cells_are_those_where_some_class_scores_highest() -> None:
    model = network().eval()
    outputs = model(images(0).images)
    memory = model.selecting.memory(outputs.mask_features, model.sem_seg_head.pixel_decoder(outputs.features)[1])
    scores = model.selecting.class_logits(model.selecting.cells(memory).features).amax(dim=-1)
    assert scores.shape[1] == 2 * 2 + 4 * 4 + 8 * 8
    best = scores.sort(dim=1, descending=True).values[:, :8]
    torch.testing.assert_close(outputs.predictions[0].logits.amax(dim=-1), best)
    assert len(outputs.predictions) == 4 and outputs.predictions[-1].boxes.shape == (2, 8, 4)


def test_virtual_queries_change_nothing_for_the_others() -> None:
    model = network().eval()
    batch = images(0)
    alone = model(batch.images)
    together = model(batch.images, VirtualQueries(torch.randn(2, 3, 32), torch.zeros(2, 3, dtype=torch.int64)))
    for mine, theirs in zip(together.predictions, alone.predictions, strict=True):
        torch.testing.assert_close(mine.logits[:, :8], theirs.logits)
        torch.testing.assert_close(mine.masks[:, :8], theirs.masks)
        torch.testing.assert_close(mine.boxes[:, :8], theirs.boxes)
        assert mine.logits.shape == (2, 11, 6)


def test_a_network_asked_about_its_own_cells_says_the_same_again() -> None:
    model = network().eval()
    batch = images(0)
    outputs = model(batch.images)
    again = model(batch.images, comparison=Comparison(outputs.selection.positions, decode=True))
    torch.testing.assert_close(again.distilled.selected, outputs.predictions[0].logits)
    torch.testing.assert_close(again.distilled.final, outputs.predictions[-1].logits)


def test_columns_of_unseen_classes_may_be_left_alone() -> None:
    model = network(unseen_columns=False)
    assert model(images(0).images).logits.shape[-1] == 3
    model.grow(2)
    assert model(images(0).images).logits.shape[-1] == 5 and model.classes_per_step == [3, 2]
    with pytest.raises(ValueError, match="6 columns, but 7 classes are learnt"):
        model.grow(2)


def test_proposals_lie_around_their_cells_and_leave_the_border_out() -> None:
    boxes, valid = proposals([(2, 2), (100, 2)])
    assert boxes[0].sigmoid().tolist() == pytest.approx([0.25, 0.25, 0.05, 0.05])
    assert boxes[4 + 7].sigmoid().tolist() == pytest.approx([0.75, 0.035, 0.1, 0.1])
    assert not valid[4] and boxes[4].isinf().all() and valid.sum() == 4 + 200 - 4
    torch.testing.assert_close(moved(boxes.sigmoid()[:4], torch.zeros(4, 4)), boxes.sigmoid()[:4])
    assert encoded(torch.rand(2, 5, 4), 6).shape == (2, 5, 24)


# ----------------------------------------------------------------------------------------------------------------- losses


def test_boxes_are_tight_and_overlap_as_they_should() -> None:
    masks = torch.zeros(2, 8, 4, dtype=torch.bool)
    masks[0, 2:4, 1:] = True
    assert mask_boxes(masks).tolist() == [[0.625, 0.375, 0.75, 0.25], [0.0, 0.0, 0.0, 0.0]]
    left, right = torch.tensor([0.25, 0.5, 0.5, 1.0]), torch.tensor([0.75, 0.5, 0.5, 1.0])
    assert generalised_overlap(left, left).item() == pytest.approx(1, abs=1e-4)
    assert generalised_overlap(left, right).item() == pytest.approx(0, abs=1e-4)
    far = torch.tensor([0.9, 0.9, 0.1, 0.1])
    assert generalised_overlap(torch.tensor([0.1, 0.1, 0.1, 0.1]), far) < -0.9


def test_a_query_that_matches_nothing_answers_no_to_every_class() -> None:
    logits = torch.zeros(1, 2, 3, requires_grad=True)
    summed_focal_loss(logits, torch.tensor([[3, 1]]), 1.0).backward()
    assert (logits.grad[0, 0] > 0).all() and logits.grad[0, 1].sign().tolist() == [1, -1, 1]  # type: ignore[index]


def test_old_queries_that_are_sure_become_targets() -> None:
    logits = torch.tensor([[4.0, -4, -4, -4], [-4, 1, -4, -4], [-4, -4, 3, -4], [-4, -4, -4, 3], [-0.9, -4, -4, -4]])
    masks = torch.zeros(5, 2, 2)

    def labels(threshold: float, refused: Literal["next", "unknown"], sharpen: bool = True) -> list[int]:
        (found,) = certain_predictions(logits[None], masks[None], (2, 2), threshold, 2, refused, sharpen)
        found_labels: list[int] = found.labels.tolist()
        return found_labels

    assert labels(0.35, "next") == [0, 3, 1]  # class 2 has the place of "no object", class 3 slips through
    assert labels(0.35, "unknown") == [0, 1]
    assert labels(0.2, "unknown", sharpen=False) == [0, 1, 0]
    assert sharpened(torch.tensor([[0.9, 0.1], [0.5, 0.5]])).tolist() == pytest.approx([1.0, 0.5], abs=1e-4)


def test_masks_of_one_class_are_united() -> None:
    masks = torch.eye(3, dtype=torch.bool)[:, None]
    none = MaskTargets(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 1, 3, dtype=torch.bool))
    joined, nothing = united([MaskTargets(torch.tensor([4, 1, 4]), masks), none])
    assert joined.labels.tolist() == [1, 4] and joined.masks[:, 0].tolist() == [
        [False, True, False],
        [True, False, True],
    ]
    assert len(nothing) == 0


# ----------------------------------------------------------------------------------------------------------------- method


def test_the_base_step_fills_the_bank_and_distils_nothing() -> None:
    terms, state = one_step(SimCIS(), network(), None, BASE, images(0, 2))
    assert terms.keys() == {"classification", "mask", "dice", "box", "overlap"}
    assert all(term > 0 and term.isfinite() for term in terms.values())
    assert vectors_held(state["bank"]) == [2, 0, 2, 0, 0, 0]
    base = one_step(build("simcis-joint", {}, "mask"), network(), None, BASE, images(0, 2))[0]  # type: ignore[arg-type]
    assert all(torch.equal(base[name], terms[name]) for name in terms)


def test_an_unchanged_network_is_where_the_old_one_was() -> None:
    old = network().eval()
    new = copy.deepcopy(old)
    new.grow(2)
    method = SimCIS(decoder_weight=2.0)
    terms, state = one_step(method, new, old, STEP, images(3, 4))
    assert terms["selection_distillation"].item() == pytest.approx(0, abs=1e-5)
    assert terms["decoder_distillation"].item() == pytest.approx(0, abs=1e-5)
    assert len(state["counts"]) == 3 and vectors_held(state["bank"])[3:5] == [2, 2]
    with torch.no_grad():
        new.selecting.enc_output.bias.add_(torch.randn(32))
    moved_on = one_step(method, new, old, STEP, images(3, 4))[0]
    assert moved_on["selection_distillation"] > 0.01
    (gradient,) = torch.autograd.grad(moved_on["selection_distillation"], new.selecting.enc_output.weight)
    assert gradient.abs().sum() > 0


def test_virtual_queries_enter_the_class_loss_alone() -> None:
    old = network().eval()
    new = copy.deepcopy(old)
    new.grow(2)
    few, many = (one_step(SimCIS(virtual_queries=v), new, old, STEP, images(3))[0] for v in (0, 4))
    assert many["classification"] > few["classification"]
    context = step_context(STEP, new, state={"bank": empty_bank(6, 80, 32, CPU), "counts": torch.ones(3)})
    store(context.state["bank"], torch.randn(30, 32), torch.arange(30) % 3)
    with torch.no_grad():
        outputs = SimCIS(virtual_queries=4).forward(context, images(3), old(images(3).images))
    assert outputs.virtual_labels is not None and outputs.virtual_labels.shape == (2, 4)
    assert outputs.virtual_labels.max() < 3 and outputs.logits.shape[1] == 8 + 4


def test_fine_tuning_of_this_network_has_neither() -> None:
    new = network()
    new.grow(2)
    terms, state = one_step(SimCISFinetuning(), new, None, STEP, images(3))
    assert "selection_distillation" not in terms and "counts" not in state


def test_images_with_the_class_that_leaks_get_no_pseudo_targets_but_fill_the_bank() -> None:
    old = network().eval()
    with torch.no_grad():
        old.selecting.class_head.bias[1] = 9.0  # type: ignore[union-attr,index,operator]
    method = SimCIS(pseudo_overlap_threshold=0.0)
    context = step_context(STEP, network())
    with torch.no_grad():
        outputs = old(images(3).images)
        plain, leaking = (method.targets(context, images(3, 5, leaked=leaked), outputs) for leaked in (False, True))
    assert len(plain.images[0].targets) > 2 and len(leaking.images[0].targets) == 2
    assert len(leaking.stored[0].targets) == len(plain.stored[0].targets) > 2
    assert torch.equal(plain.images[0].boxes, mask_boxes(plain.images[0].targets.masks))


def test_classes_to_come_win_pixels_and_are_not_named() -> None:
    logits = torch.full((2, 4), -9.0)
    logits[0, 0] = logits[1, 3] = 9.0
    masks = torch.zeros(2, 2, 4)
    masks[0, :, :2], masks[1, :, 2:] = 1.0, 1.0
    method = SimCIS()
    ids, segments = method.panoptic(logits, masks, torch.tensor([True, False]))
    assert [(s.id, s.category, s.isthing) for s in segments] == [(1, 0, True)] and ids[0].tolist() == [1, 1, 0, 0]
    assert method.semantic(logits, masks, known=2)[0].tolist() == [1, 1, 0, 0]
    assert method.semantic(logits, masks)[0].tolist() == [1, 1, 4, 4]
    assert method.semantic(logits, masks, (2, 8), known=2)[0].tolist() == [1] * 4 + [0] * 4


def test_the_network_needs_a_column_for_every_class() -> None:
    class Recipe:
        family, transform, batch_size = "mask", {}, 2

        def __init__(self, classes: int) -> None:
            self.network = {"name": "mask2former-simcis", "classes": classes}

    given_classes = (Scenario.from_name("3-1", range(5), {}), "overlapped", "panoptic")
    SimCIS().check(Recipe(5), *given_classes)  # type: ignore[arg-type]
    with pytest.raises(MethodError, match=r"network\.classes is 4, but 5 classes are learnt"):
        SimCIS().check(Recipe(4), *given_classes)  # type: ignore[arg-type]
