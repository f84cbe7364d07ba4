"""ECLIPSE on a small network: what trains, what is supervised, what its groups answer for."""

from __future__ import annotations

import copy
import itertools
import math
from pathlib import Path

import pytest
import torch
from contexts import step_context
from hypothesis import given, settings
from hypothesis import strategies as st
from trainings import train

from model.data.loading.mask_batch import MaskBatch, MaskTargets
from model.methods.mask.balconpas import BalConpas
from model.methods.mask.eclipse import SILENCED, Eclipse, manipulate_logits
from model.methods.registry import MethodError, build
from model.networks.initial_weights import load_initial_weights
from model.networks.layers import normalisations
from model.networks.mask2former.prompted_network import PromptedMask2Former, build_eclipse
from model.networks.registry import UnsuitableNetworkError, check_requirements
from model.scenario import Step

BASE = Step(0, (), (10, 11, 12))
STEP = Step(1, (10, 11, 12), (13, 14))
THIRD = Step(2, (10, 11, 12, 13, 14), (15,))


def network(classes=(3,), norm: str = "gn", prompts: int = 4) -> PromptedMask2Former:
    torch.manual_seed(0)
    return build_eclipse(
        list(classes), backbone="tiny", norm=norm, channels=32, queries=8, encoder_layers=1, encoder_heads=4,
        encoder_feed_forward=32, decoder_layers=3, decoder_heads=4, decoder_feed_forward=32, points=64, prompts=prompts,
    )  # fmt: skip


def batch(*labels: int) -> MaskBatch:
    masks = torch.zeros(len(labels), 64, 64, dtype=torch.bool)
    for index in range(len(labels)):
        masks[index, 16 * index : 16 * (index + 1)] = True
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    targets = (MaskTargets(torch.tensor(labels), masks),)
    return MaskBatch(images, targets, ((64, 64),), ("image",), torch.zeros(1, dtype=torch.bool))


def terms(method: Eclipse, model: PromptedMask2Former, images: MaskBatch) -> dict[str, torch.Tensor]:
    torch.manual_seed(5)
    return method.losses(step_context(STEP, model), images, model.train()(images.images), None, images.labels)


def run(model: PromptedMask2Former, method: Eclipse, step: Step, images: MaskBatch) -> tuple[int, dict[str, float]]:
    """Two iterations on one batch: the number of trained parameters, and the last loss terms."""
    done = train(
        model,
        method,
        step,
        lambda start: itertools.repeat(images),
        optimiser="adamw",
        learning_rate=1e-2,
        weight_decay=0.05,
        iterations=2,
        seed=step.index,
    )
    return done.result.trainable_parameters, done.terms[-1]


def test_three_steps_leave_everything_old_as_it_was() -> None:
    model, method = network(), Eclipse()
    count, reported = run(model, method, BASE, batch(0, 2))
    assert count == sum(parameter.numel() for parameter in model.parameters())
    for step, images in ((STEP, batch(3, 4)), (THIRD, batch(5))):
        before = copy.deepcopy(model.state_dict())
        method.grow(model, step)
        grown = copy.deepcopy(model.state_dict())
        count, reported = run(model, method, step, images)
        after = model.state_dict()
        changed = {key for key in before if not torch.equal(before[key], after[key])}
        assert changed == {key for key in before if ".class_embed.cls.0." in key}  # "no object" goes on learning
        new = grown.keys() - before.keys()
        # the first layers of a mask head see gradients through its last one, so two updates move everything
        assert {key for key in new if not torch.equal(grown[key], after[key])} == new
        width, classes = 32, len(step.current)
        perceptrons = 3 * (width * width + width) + 2 * (2 * (width * width + width)) + (width + 1) * (classes + 1)
        assert count == 4 * width * (1 + 3) + perceptrons
        assert all(math.isfinite(value) for value in reported.values())
    assert model.classes_per_step == [3, 2, 1]
    assert {"classification", "mask", "dice", "total"} == reported.keys()


def test_answers_of_old_groups_change_with_no_object_alone() -> None:
    model, method, images = network((3, 2)), Eclipse(deltas=(0.5,)), batch(3, 4)
    with torch.no_grad():
        before = method.predict(model.eval()(images.images), STEP)
        train_step_images = batch(5)
        method.grow(model, THIRD)
    run(model, method, THIRD, train_step_images)
    with torch.no_grad():
        after = method.predict(model.eval()(images.images), THIRD)
    assert after.logits.shape[1:] == (16, 7) and before.logits.shape[1:] == (12, 6)
    torch.testing.assert_close(after.masks[:, :12], before.masks)
    torch.testing.assert_close(after.logits[:, :12, :5], before.logits[..., :5])
    assert (after.logits[:, :12, 5] == SILENCED).all()


def test_the_base_step_is_read_as_it_is() -> None:
    model = network().eval()
    with torch.no_grad():
        outputs = model(batch(0).images)
    assert torch.equal(Eclipse(deltas=(0.5,)).predict(outputs, BASE).logits, outputs.logits)


def test_increments_supervise_two_predictions_unless_told_otherwise() -> None:
    model, images = network((3, 2)), batch(3, 4)
    outputs = model.train()(images.images)
    assert len(outputs.predictions) == 4 and outputs.logits.shape[1] == 4  # prompts of the newest group alone

    def evaluated(method: Eclipse) -> int:
        counted = []
        losses = method.__class__.weighted
        try:
            method.__class__.weighted = lambda self, found: counted.append(len(found)) or losses(self, found)
            terms(method, model, images)
        finally:
            method.__class__.weighted = losses
        return counted[0]

    assert evaluated(Eclipse()) == 2
    assert evaluated(Eclipse(released_supervision=False)) == 4


def test_the_class_weight_of_increments_is_their_own() -> None:
    images = batch(3, 4)
    usual, heavier = (
        terms(Eclipse(increment_class_weight=weight), network((3, 2)), images)["classification"]
        for weight in (1e-3, 2e-3)
    )
    torch.testing.assert_close(heavier, 2 * usual, rtol=1e-4, atol=0)
    one, other = (terms(Eclipse(increment_class_weight=weight), network(), batch(0, 2)) for weight in (1.0, 50.0))
    torch.testing.assert_close(one["classification"], other["classification"])


@pytest.mark.parametrize("released", [True, False])
def test_statistics_of_the_frozen_network_drift_only_as_released(released: bool) -> None:
    model = network((3, 2), norm="bn")
    means = [layer.running_mean.clone() for layer in normalisations(model) if hasattr(layer, "running_mean")]
    run(model, Eclipse(released_statistics=released), STEP, batch(3))
    after = [layer.running_mean for layer in normalisations(model) if hasattr(layer, "running_mean")]
    assert means and any(not torch.equal(a, b) for a, b in zip(means, after, strict=True)) == released


def test_prompts_are_not_decayed_but_their_heads_are() -> None:
    model = network((3, 2))
    groups = Eclipse().trainable(model, STEP).groups
    where = {id(parameter): group.weight_decay for group in groups for parameter in group.parameters}
    named = dict(model.predictor.named_parameters())
    assert where[id(named["prompt_feat.0.weight"])] == where[id(named["prompt_embed.0.2.weight"])] == 0.0
    assert (
        where[id(named["prompt_mask_embed.0.layers.0.bias"])] is where[id(named["class_embed.cls.0.layers.2.weight"])]
    )
    assert where[id(named["prompt_mask_embed.0.layers.0.bias"])] is None


logit = st.floats(-8, 8, allow_nan=False, width=32)


@settings(deadline=None, max_examples=50)
@given(st.lists(logit, min_size=4, max_size=4), st.floats(-1, 1))
def test_manipulation_follows_the_formula(values: list[float], delta: float) -> None:
    z = torch.tensor(values, dtype=torch.float64)  # two base classes, one new class, "no object"
    found = manipulate_logits(z.expand(1, 2, 4), (1, 1), (2, 1), (delta,))[0]
    sigmoid = [1 / (1 + math.exp(-value)) for value in z.tolist()]
    for row, foreign in ((found[0], [2]), (found[1], [0, 1])):
        own = [index for index in range(3) if index not in foreign]
        assert torch.equal(row[own], z[own]) and (row[foreign] == SILENCED).all()
        if delta == 0:
            assert row[3] == z[3]
            continue
        evidence = min(1.0, sum(sigmoid[index] for index in foreign)) if delta > 0 else sigmoid[3]
        probability = min(max(abs(delta) * evidence, 0.001), 0.999)
        assert row[3].sigmoid().item() == pytest.approx(probability, abs=1e-9)


def test_the_last_delta_stands_for_all_further_steps() -> None:
    logits = torch.randn(2, 6, 6, dtype=torch.float64)
    wanted = manipulate_logits(logits, (2, 3, 1), (2, 2, 1), (0.4, 0.6, 0.6))
    assert torch.equal(manipulate_logits(logits, (2, 3, 1), (2, 2, 1), (0.4, 0.6)), wanted)
    assert torch.equal(manipulate_logits(logits, (2, 3, 1), (2, 2, 1), (0.4, 0.6, 0.6, 0.9)), wanted)
    assert not torch.equal(manipulate_logits(logits, (2, 3, 1), (2, 2, 1), (0.4,)), wanted)


def test_deltas_and_thresholds_belong_to_the_evaluation() -> None:
    assert set(Eclipse.hyper_parameters("predict")) == {
        "deltas", "object_threshold", "overlap_threshold", "max_detections", "semantic_reading",
    }  # fmt: skip
    assert build("eclipse", {"deltas": [-0.4, -0.6]}, "mask").deltas == (-0.4, -0.6)  # type: ignore[attr-defined]
    with pytest.raises(MethodError, match="'deltas' of mask method 'eclipse' is \\[\\]"):
        build("eclipse", {"deltas": []}, "mask")
    with pytest.raises(MethodError, match="no hyper-parameter 'no_object_weight'"):
        build("eclipse", {"no_object_weight": 0.1}, "mask")


def test_semantic_reading_leaves_unclaimed_pixels_empty() -> None:
    logits = torch.tensor([[4.0, SILENCED, 0.0], [SILENCED, 3.0, 0.0]])
    masks = torch.zeros(2, 4, 4)
    masks[0, :, :2], masks[1, :2, 2:] = 1.0, 1.0
    small, large = Eclipse().semantic(logits, masks), Eclipse().semantic(logits, masks, (8, 8))
    assert small[:, :2].unique().tolist() == [1] and small[:2, 2:].unique().tolist() == [2]
    assert small[2:, 2:].unique().tolist() == [0]
    assert torch.equal(large, small.repeat_interleave(2, 0).repeat_interleave(2, 1))


def test_a_released_checkpoint_of_the_base_step_gives_the_first_weights(tmp_path: Path) -> None:
    theirs, mine = network(), network()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(1.0)
    torch.save({"model": theirs.state_dict()}, tmp_path / "base.pth")
    load_initial_weights("mask2former-eclipse", mine, {"file": str(tmp_path / "base.pth"), "source": "eclipse"})
    assert all(torch.equal(value, theirs.state_dict()[key]) for key, value in mine.state_dict().items())
    with pytest.raises(ValueError, match="class_embed"):  # two steps do not fit into one
        entry = {"file": str(tmp_path / "base.pth"), "source": "eclipse"}
        load_initial_weights("mask2former-eclipse", network((3, 2)), entry)


def test_other_methods_are_refused_on_this_network_and_this_one_on_others() -> None:
    with pytest.raises(UnsuitableNetworkError, match="'mask2former-eclipse', but has to be 'mask2former'"):
        check_requirements({"name": "mask2former-eclipse"}, BalConpas.network_arguments)
    with pytest.raises(UnsuitableNetworkError, match="'mask2former', but has to be 'mask2former-eclipse'"):
        check_requirements({"name": "mask2former"}, Eclipse.network_arguments)


def test_a_network_needs_prompts() -> None:
    with pytest.raises(ValueError, match="prompts = 0 must be at least 1"):
        network(prompts=0)
