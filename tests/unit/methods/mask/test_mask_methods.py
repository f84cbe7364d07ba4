"""The methods on mask-classification networks, on a small network."""

from __future__ import annotations

import copy
import itertools
import math
from dataclasses import replace

import pytest
import torch
from contexts import step_context
from trainings import train

from model.data.loading.mask_batch import MaskBatch, MaskTargets
from model.losses.mask_pseudo_targets import OldPrediction, old_predictions, pseudo_targets
from model.losses.query_classification import query_cross_entropy
from model.losses.query_losses import balanced_query_cross_entropy, query_distillation
from model.methods.mask.balconpas import BalConpas, BalConpasR, merge_targets
from model.methods.mask.base import parameter_groups, strange_images
from model.methods.mask.finetuning import MaskFinetuning
from model.networks.mask2former.network import Mask2Former, build_mask2former
from model.scenario import Step
from model.training.step import frozen_copy

STEP = Step(1, past=(10, 11, 12), current=(13, 14))


def network(classes=(3,), norm: str = "gn") -> Mask2Former:
    torch.manual_seed(0)
    return build_mask2former(
        list(classes), backbone="tiny", norm=norm, channels=32, queries=8, encoder_layers=1, encoder_heads=4,
        encoder_feed_forward=32, decoder_layers=3, decoder_heads=4, decoder_feed_forward=32, points=64,
    )  # fmt: skip


def targets(*labels: int, size: int = 64) -> MaskTargets:
    masks = torch.zeros(len(labels), size, size, dtype=torch.bool)
    for index in range(len(labels)):
        masks[index, 16 * index : 16 * (index + 1)] = True
    return MaskTargets(torch.tensor(labels, dtype=torch.int64), masks)


def batch(*images: MaskTargets) -> MaskBatch:
    generator = torch.Generator().manual_seed(1)
    count = len(images)
    return MaskBatch(
        torch.randn(count, 3, 64, 64, generator=generator),
        images,
        ((64, 64),) * count,
        tuple(f"image{index}" for index in range(count)),
        torch.zeros(count, dtype=torch.bool),
    )


def terms(method, new: Mask2Former, old: Mask2Former | None, step: Step, images: MaskBatch) -> dict[str, torch.Tensor]:
    torch.manual_seed(5)
    old_outputs = None
    if old is not None:
        with torch.no_grad():
            old_outputs = old(images.images)
    context = step_context(step, new)
    wanted = method.targets(context, images, old_outputs)
    return method.losses(context, images, new(images.images), old_outputs, wanted)


def certain(model: Mask2Former) -> Mask2Former:
    """The same network, sure of past class 1 in every query."""
    with torch.no_grad():
        model.predictor.class_head[0].bias.copy_(torch.tensor([0.0, 9.0, 0.0, 0.0]))
    return model


def test_the_base_step_is_that_of_fine_tuning() -> None:
    step, images = Step(0, (), (10, 11, 12)), batch(targets(0, 2), targets(1))
    base = terms(MaskFinetuning(), network(), None, step, images)
    for method in (BalConpas(), BalConpasR()):
        mine = terms(method, network(), None, step, images)
        assert mine.keys() == base.keys()
        for name, value in base.items():
            torch.testing.assert_close(mine[name], value)


def test_images_with_the_class_that_leaks_are_exemplars_to_the_class_loss_of_the_base_step() -> None:
    step, strange = Step(0, (), (10, 11, 12)), targets(0, 3)  # label 3 is "no object" to a network of three classes
    model = network()
    logits, labels = torch.randn(2, 8, 4), torch.full((2, 8), 3)
    losses = {
        leaked: MaskFinetuning().class_loss(
            step_context(step, model), replace(batch(strange, targets(1)), leaked=leaked)
        )
        for leaked in (False, True)
    }
    usual, balanced = losses[False](logits, labels), losses[True](logits, labels)
    torch.testing.assert_close(usual, query_cross_entropy(logits, labels))
    torch.testing.assert_close(balanced, query_cross_entropy(logits[1:], labels[1:]))  # the first image says nothing


def test_balconpas_teaches_the_past_through_pseudo_targets() -> None:
    old = certain(network()).eval()
    new = copy.deepcopy(old)
    BalConpas().grow(new, STEP)
    images = batch(targets(3), targets(4))
    with torch.no_grad():
        found = BalConpas(pseudo_overlap_threshold=0.0).targets(step_context(STEP), images, old(images.images))
    assert min(found.pseudo) > 0 and not found.replayed.any()
    for image, count, truth in zip(found.images, found.pseudo, images.labels, strict=True):
        assert (image.labels[:count] == 1).all() and torch.equal(image.labels[count:], truth.labels)
        assert not (image.masks[:count] & truth.masks.any(dim=0)).any()
        assert image.masks[:count].sum(dim=0).max() <= 1
    losses = terms(BalConpas(pseudo_overlap_threshold=0.0), new, old, STEP, images)
    assert losses.keys() == {"classification", "mask", "dice", "query_distillation"}
    assert losses["query_distillation"].item() == pytest.approx(0.0, abs=1e-9)  # nothing has been learnt yet
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in new.parameters())


def test_distillation_pulls_towards_the_old_queries() -> None:
    old = certain(network()).eval()
    new = copy.deepcopy(old)
    new.grow(2)
    with torch.no_grad():
        new.predictor.query_feat.weight.add_(0.5)
    losses = terms(BalConpas(pseudo_overlap_threshold=0.0), new, old, STEP, batch(targets(3)))
    assert losses["query_distillation"] > 0
    (gradient,) = torch.autograd.grad(losses["query_distillation"], new.predictor.query_feat.weight)
    assert gradient.abs().sum() > 0


def test_exemplars_get_no_pseudo_targets() -> None:
    old = certain(network()).eval()
    images = batch(targets(0, 3), targets(4))
    with torch.no_grad():
        found = BalConpasR(pseudo_overlap_threshold=0.0).targets(step_context(STEP), images, old(images.images))
    assert found.replayed.tolist() == [True, False]
    assert found.images[0] is images.labels[0]
    assert found.pseudo[0] > 0


def test_an_image_without_targets_counts_as_current() -> None:
    assert strange_images([targets(), targets(4), targets(2, 4)], STEP).tolist() == [False, False, True]


def test_a_label_beyond_the_step_marks_an_exemplar_as_in_the_released_code() -> None:
    assert strange_images([targets(4), targets(4, 5)], STEP).tolist() == [False, True]


def test_an_old_model_that_sees_nothing_distils_nothing() -> None:
    old = network().eval()
    with torch.no_grad():
        old.predictor.class_head[0].bias.copy_(torch.tensor([0.0, 0.0, 0.0, 50.0]))
    new = copy.deepcopy(old)
    new.grow(2)
    losses = terms(BalConpas(), new, old, STEP, batch(targets(3)))
    assert losses["query_distillation"] == 0
    sum(losses.values()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in new.parameters())


def test_without_exemplars_the_balanced_loss_is_the_usual_one() -> None:
    logits, labels = torch.randn(2, 6, 5, dtype=torch.float64), torch.tensor([[0, 4, 4, 2, 4, 4], [4] * 6])
    balanced = balanced_query_cross_entropy(logits, labels, torch.tensor([False, False]))
    torch.testing.assert_close(balanced, query_cross_entropy(logits, labels), atol=1e-14, rtol=0)


def test_unmatched_queries_of_exemplars_teach_nothing_and_the_others_make_up_for_it() -> None:
    logits = torch.randn(2, 4, 5, dtype=torch.float64).requires_grad_()
    labels = torch.tensor([[0, 4, 4, 4], [1, 4, 4, 4]])
    (gradient,) = torch.autograd.grad(balanced_query_cross_entropy(logits, labels, torch.tensor([True, False])), logits)
    assert gradient[0, 1:].abs().max() == 0 and gradient[0, 0].abs().max() > 0
    (usual,) = torch.autograd.grad(balanced_query_cross_entropy(logits, labels, torch.tensor([False, False])), logits)
    torch.testing.assert_close(gradient[1, 1:], 2 * usual[1, 1:])
    torch.testing.assert_close(gradient[:, 0], usual[:, 0])


def test_a_batch_of_exemplars_alone_is_finite() -> None:
    labels = torch.tensor([[0, 4, 4, 4]])
    assert balanced_query_cross_entropy(torch.randn(1, 4, 5), labels, torch.tensor([True])).isfinite()


def test_distillation_is_a_mean_over_selected_queries() -> None:
    new, old = torch.zeros(2, 3, 4), torch.zeros(2, 3, 4)
    new[0, 1], new[1, 2] = 2.0, 100.0
    selected = torch.tensor([[True, True, False], [False, False, False]])
    assert query_distillation(new, old, selected) == 2.0
    assert query_distillation(new, old, torch.zeros_like(selected)) == 0.0


def test_pseudo_targets_are_sorted_filtered_and_disjoint() -> None:
    logits = torch.tensor([[0.0, 2.0, 0.0], [3.0, 0.0, 0.0], [0.0, 0.0, 9.0]])  # the last one is "no object"
    masks = torch.full((3, 4, 4), -9.0)
    masks[0], masks[1, :1], masks[2] = 9.0, 9.0, 9.0
    (old,) = old_predictions(logits[None], masks[None], (4, 4))
    assert old.labels.tolist() == [0, 1]

    def labels_above(threshold: float) -> list[int]:
        (found,) = pseudo_targets([old], [None], threshold)
        labels: list[int] = found.labels.tolist()
        return labels

    assert labels_above(0.7) == [0, 1]  # 12 of 16 pixels are left to the second
    assert labels_above(0.75) == [0]  # the share must exceed the threshold
    covered = torch.zeros(1, 4, 4, dtype=torch.bool)
    covered[0, 0] = True
    (found,) = pseudo_targets([old], [covered], 0.7)
    assert found.labels.tolist() == [1] and not (found.masks & covered).any()


def test_nothing_seen_gives_no_pseudo_target() -> None:
    nothing = OldPrediction(torch.zeros(0, dtype=torch.int64), torch.zeros(0), torch.zeros(0, 8, 8))
    merged = merge_targets([targets(3, size=8)], [nothing], torch.tensor([False]), 0.8)
    assert merged.pseudo == (0,) and len(merged.images[0]) == 1


def test_parameter_groups_hold_everything_once() -> None:
    model = network(norm="bn")
    groups = parameter_groups(model)
    chosen = [id(parameter) for group in groups for parameter in group.parameters]
    assert len(chosen) == len(set(chosen)) == len(list(model.parameters()))
    where = {id(parameter): group for group in groups for parameter in group.parameters}
    named = dict(model.named_parameters())
    for name, backbone, decay in (
        ("backbone.stem.conv1.weight", True, None),
        ("backbone.stem.conv1.norm.weight", True, 0.0),
        ("sem_seg_head.predictor.query_feat.weight", False, 0.0),
        ("sem_seg_head.predictor.level_embed.weight", False, 0.0),
        ("sem_seg_head.predictor.decoder_norm.bias", False, 0.0),
        ("sem_seg_head.pixel_decoder.input_proj.0.1.weight", False, 0.0),
        ("sem_seg_head.pixel_decoder.transformer.level_embed", False, None),  # a bare parameter is decayed
        ("sem_seg_head.predictor.mask_embed.layers.0.bias", False, None),  # and so are biases
        ("sem_seg_head.predictor.class_embeds.0.weight", False, None),
    ):
        group = where[id(named[name])]
        assert (group.backbone, group.weight_decay) == (backbone, decay), name


def test_semantic_reading_counts_from_one_and_resizes_scores() -> None:
    logits = torch.tensor([[9.0, 0.0, 0.0], [0.0, 9.0, 0.0]])
    masks = torch.zeros(2, 4, 4)
    masks[0, :, :2], masks[1, :, 2:] = 1.0, 1.0
    labels = MaskFinetuning().semantic(logits, masks, (8, 8))
    assert labels.shape == (8, 8)
    assert (labels[:, :3] == 1).all() and (labels[:, 5:] == 2).all()


def test_thresholds_of_the_method_reach_the_panoptic_reading() -> None:
    logits, masks = torch.tensor([[1.0, 0.0, 0.0]]), torch.ones(1, 4, 4)
    things = torch.tensor([True, False])
    assert MaskFinetuning().panoptic(logits, masks, things)[1] == []
    assert len(MaskFinetuning(object_threshold=0.5).panoptic(logits, masks, things)[1]) == 1
    assert set(MaskFinetuning.hyper_parameters("predict")) == {
        "object_threshold",
        "overlap_threshold",
        "semantic_reading",
        "max_detections",
    }


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_two_steps_through_the_training_loop(precision: str) -> None:
    model, method, state = network(), BalConpasR(pseudo_overlap_threshold=0.0), {}
    first = Step(0, (), (10, 11, 12))
    for step, images in ((first, batch(targets(0, 2), targets(1))), (STEP, batch(targets(3), targets(0, 4)))):
        old = None
        if step.index:
            old = frozen_copy(certain(model))
            method.grow(model, step)
        done = train(
            model,
            method,
            step,
            lambda start, images=images: itertools.repeat(images),
            optimiser="adamw",
            learning_rate=1e-4,
            weight_decay=0.05,
            iterations=2,
            old_model=old,
            state=state,
            seed=step.index,
            clip_norm=0.01,
            precision=precision,
        )
        state = done.state
        assert done.result.trainable_parameters == sum(parameter.numel() for parameter in model.parameters())
        assert all(math.isfinite(value) for terms in done.terms for value in terms.values())
    assert model.classes_per_step == [3, 2]
    assert {"classification", "mask", "dice", "query_distillation", "total"} == done.terms[-1].keys()
    assert 0 < done.terms[-1]["query_distillation"] < done.terms[-1]["total"]


def test_a_few_updates_lower_the_loss() -> None:
    model, images = network(), batch(targets(0, 2), targets(1))
    done = train(
        model,
        MaskFinetuning(),
        Step(0, (), (10, 11, 12)),
        lambda start: itertools.repeat(images),
        optimiser="adamw",
        learning_rate=2e-3,
        iterations=30,
    )
    values = [terms["total"] for terms in done.terms]
    assert sum(values[-5:]) < 0.6 * sum(values[:5])
