"""STAR: what a step leaves behind, what is drawn from it, what trains, and how it decides."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from contexts import step_context
from torch import nn
from torch.nn import functional
from trainings import train

from model.config.messages import ConfigError
from model.data.loading.pixel_batch import PixelBatch
from model.losses.feature_constraints import old_class_consistency, similarity_aware_discrimination
from model.losses.foreground import decide_foreground, foreground_cross_entropy, negatives
from model.methods.pixel.star_features import ClassStatistics, FeatureError, draw_features, grid_labels, measure_classes
from model.methods.pixel.star_replay_plan import replay_plan
from model.methods.registry import build
from model.networks.deeplabv3.network import DeepLabV3
from model.networks.deeplabv3.outputs import PixelOutputs
from model.scenario import Step
from model.training.checkpoint import refuse_unsafe
from model.training.job import tensor_bytes
from model.training.optimiser import freeze_untrained
from model.training.step import frozen_copy

BASE, FIRST, SECOND = Step(0, (), (11, 12)), Step(1, (11, 12), (13,)), Step(2, (11, 12, 13), (14, 15))
CPU = torch.device("cpu")


@pytest.fixture
def network() -> DeepLabV3:
    torch.manual_seed(0)
    return DeepLabV3(
        (2,),
        backbone="tiny",
        head="dkd",
        channels=8,
        rates=(1, 2, 3),
        output_stride=8,
        activation="relu",
        background=False,
    )


def three_iterations(network, method, step, state, stream, labels, old_model=None, setting="overlapped"):
    """Three iterations, then statistics; the stream's labels count from the step's first class."""

    def shifted(batch: PixelBatch) -> PixelBatch:
        y = torch.where(batch.labels > 0, batch.labels + len(step.past), 0)
        return PixelBatch(batch.images, y, batch.names, batch.from_memory)

    done = train(
        network,
        method,
        step,
        lambda start: map(shifted, stream(labels, start=start)),
        one_pass=lambda: [shifted(batch) for batch, _ in zip(stream(labels), range(3), strict=False)],
        learning_rate=0.001,
        weight_decay=1e-4,
        old_model=old_model,
        state=state,
        setting=setting,
    )
    return done.state, {name for terms in done.terms for name in terms}


def test_three_steps(network, pixel_stream) -> None:
    method = build("star")
    state, terms = three_iterations(network, method, BASE, {}, pixel_stream, 3)
    assert terms == {"classification", "total"}
    for number, step in enumerate((FIRST, SECOND), start=1):
        old_model, before = frozen_copy(network), deepcopy(state)
        method.grow(network, step)
        running = {key: value.clone() for key, value in network.state_dict().items() if "running" in key or "bn" in key}
        state, terms = three_iterations(network, method, step, state, pixel_stream, 1 + len(step.current), old_model)
        assert terms == {"classification", "consistency", "discrimination", "total"}
        assert all(torch.equal(network.state_dict()[key], value) for key, value in running.items())
        known = len(step.seen)
        shapes = {"prototypes": (known, 8), "deviations": (known, 8), "norms": (2, known), "numbers": (1 + known,)}
        assert {key: tuple(value.shape) for key, value in state.items()} == shapes, number
        for key in ("prototypes", "deviations"):
            assert torch.equal(state[key][: len(step.past)], before[key])
        refuse_unsafe(state, "state")
    torch.testing.assert_close(state["prototypes"].norm(dim=1), torch.ones(5))


def test_state_is_as_small_as_promised(network, pixel_stream) -> None:
    state, _ = three_iterations(network, build("star"), BASE, {}, pixel_stream, 3)
    classes, channels = 2, 8
    assert tensor_bytes(state) == 4 * (classes * (2 * channels + 3) + 1)


def test_what_trains(network) -> None:
    method = build("star")
    everything = [id(p) for group in method.trainable(network, BASE).groups for p in group.parameters]
    assert sorted(everything) == sorted(id(p) for p in network.parameters())
    assert [group.learning_rate_factor for group in method.trainable(network, BASE).groups] == [1, 10, 10]
    method.grow(network, FIRST)
    trainable = method.trainable(network, FIRST)
    assert [group.learning_rate_factor for group in trainable.groups] == [1, 10, 10, 100]
    assert trainable.groups[-1].parameters == tuple(network.cls[1].parameters())
    freeze_untrained(network, trainable.groups)
    frozen = {name for name, p in network.named_parameters() if not p.requires_grad}
    norms = {name for name, m in network.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert frozen == {f"{name}.{leaf}" for name in norms for leaf in ("weight", "bias")}
    assert sum(isinstance(m, nn.Dropout) for m in trainable.evaluation_modules) == 1


def test_old_classifiers_get_no_gradient_of_the_loss(network, pixel_stream) -> None:
    method, old_model = build("star"), frozen_copy(network)
    state, _ = three_iterations(network, method, BASE, {}, pixel_stream, 3)
    method.grow(network, FIRST)
    batch = next(pixel_stream(1))
    state |= {"replayed": [3, 0], "background_ratio": 0.5}
    network.zero_grad()
    outputs, old_outputs = network(batch.images), old_model(batch.images)
    targets = method.targets(step_context(FIRST, state=state), batch, old_outputs)
    sum(
        method.losses(step_context(FIRST, network, state=state), batch, outputs, old_outputs, targets).values()
    ).backward()
    assert network.cls[0].weight.grad.abs().max() == 0
    assert network.cls[1].weight.grad.abs().max() > 0


def test_a_crop_without_old_and_new_classes_trains(network, pixel_stream) -> None:
    """The released code divides by zero there."""
    method, old_model = build("star"), frozen_copy(network)
    state, _ = three_iterations(network, method, BASE, {}, pixel_stream, 3)
    nn.init.constant_(old_model.cls[0].bias, -100.0)  # sees background everywhere
    method.grow(network, FIRST)
    batch = next(pixel_stream(1))
    outputs, old_outputs = network(batch.images), old_model(batch.images)
    state |= {"replayed": [0, 0], "background_ratio": 0.0}
    targets = method.targets(step_context(FIRST, state=state), batch, old_outputs)
    terms = method.losses(step_context(FIRST, network, state=state), batch, outputs, old_outputs, targets)
    assert terms["consistency"] == 0 and torch.isfinite(terms["discrimination"])
    sum(terms.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


def test_labels_of_past_classes_are_hidden() -> None:
    labels = torch.tensor([[[0, 1, 2, 3, 255]]])
    batch = PixelBatch(torch.zeros(1, 3, 1, 5), labels, ("a",), torch.ones(1, dtype=torch.bool))
    assert build("star-m").targets(step_context(FIRST), batch, None).labels.tolist() == [[[0, 0, 0, 3, 255]]]


def test_decision() -> None:
    logits = torch.tensor([[-0.1, -0.2], [0.3, 0.1], [-2.0, 0.4]]).T.view(1, 2, 3, 1)
    outputs = PixelOutputs(logits, logits, logits)
    assert build("star").predict(outputs, BASE).flatten().tolist() == [0, 1, 2]
    view = [build("star", {"released_threshold": flag}).old_view(outputs).flatten().tolist() for flag in (True, False)]
    assert view == [[0, 0, 0], [0, 1, 2]]
    assert decide_foreground(logits, 0.35).flatten().tolist() == [0, 0, 2]


@pytest.mark.parametrize(("released", "row"), [(True, 0), (False, 2)])
def test_deviations_of_new_classes(released, row) -> None:
    """As released they are measured from an old prototype, which makes them far larger."""
    torch.manual_seed(0)
    old = ClassStatistics(torch.eye(2, 4), torch.zeros(2, 4), torch.ones(2, 2))
    x = functional.normalize(torch.tensor([0.0, 0.1, 0.2, 1.0]), dim=0) * 3
    features, labels = x.view(1, 4, 1, 1).expand(1, 4, 2, 2), torch.full((1, 16, 16), 3)

    class Constant(nn.Module):
        def forward(self, images):
            return PixelOutputs(features, features, features)

    batch = PixelBatch(torch.zeros(1, 3, 16, 16), labels, ("a",), torch.zeros(1, dtype=torch.bool))
    state = {"prototypes": old.prototypes, "deviations": old.deviations, "norms": old.norms, "numbers": torch.zeros(4)}
    method = build("star", {"released_deviations": released})
    found = method.after_step(step_context(FIRST, Constant(), batches=[batch], state=state))
    torch.testing.assert_close(found["deviations"][2], (x / 3 - found["prototypes"][row]).abs(), atol=1e-6, rtol=0)
    torch.testing.assert_close(found["norms"][:, 2], torch.tensor([3.0, 0.0]))


def test_statistics_describe_the_features() -> None:
    torch.manual_seed(3)
    labels = torch.randint(0, 3, (4, 32, 32)).repeat_interleave(4, 1).repeat_interleave(4, 2)
    features = torch.randn(4, 6, 32, 32) + 2
    batches = [(features[:2], labels[:2]), (features[2:], labels[2:])]
    found = measure_classes(lambda: batches, (1, 2, 9))
    rows, y = features.permute(0, 2, 3, 1).reshape(-1, 6), grid_labels(labels, features).flatten()
    for place, label in enumerate((1, 2)):
        unit, norm = functional.normalize(rows[y == label]), rows[y == label].norm(dim=1)
        prototype = functional.normalize(unit.mean(0), dim=0)
        torch.testing.assert_close(found.prototypes[place], prototype)
        torch.testing.assert_close(found.deviations[place], (unit - prototype).square().mean(0).sqrt())
        torch.testing.assert_close(found.norms[:, place], torch.stack([norm.mean(), norm.std()]))
    assert found.prototypes[2].abs().max() == found.norms[:, 2].max() == 0  # not in the images
    drawn = draw_features(found, (20000, 0, 0), torch.randn, norm_per_channel=False)[0, :, :, 0].T
    torch.testing.assert_close(functional.normalize(drawn.mean(0), dim=0), found.prototypes[0], atol=0.02, rtol=0)


def test_negatives_add_up_over_classes() -> None:
    torch.testing.assert_close(negatives(torch.zeros(2, 3, 5, 1)), 3 * torch.tensor(2.0).log())


def test_no_feature_is_drawn_of_no_class() -> None:
    statistics = ClassStatistics(torch.eye(2, 4), torch.ones(2, 4), torch.ones(2, 2))
    assert draw_features(statistics, (0, 0), torch.randn).shape == (1, 4, 0, 1)


def test_labels_and_features_need_a_common_grid() -> None:
    assert grid_labels(torch.arange(64).view(1, 8, 8), torch.zeros(1, 1, 2, 2)).tolist() == [[[18, 22], [50, 54]]]
    with pytest.raises(FeatureError, match=r"labels of \(513, 513\) and features of \(33, 33\) share no grid"):
        grid_labels(torch.zeros(1, 513, 513), torch.zeros(1, 1, 33, 33))


def test_every_other_label_is_a_negative() -> None:
    logits = torch.tensor([2.0, -1.0]).view(1, 2, 1, 1).expand(1, 2, 1, 4)
    labels = torch.tensor([[[3, 4, 0, 255]]])
    positive, negative = functional.softplus(-logits[0, :, 0, 0]), functional.softplus(logits[0, :, 0, 0])
    expected = (7 * positive + 3 * negative).sum() / 4
    torch.testing.assert_close(foreground_cross_entropy(logits, labels, 3, 7.0), expected)


def test_an_absent_class_is_as_far_as_the_origin() -> None:
    features = torch.randn(1, 4, 3, 3)
    value = similarity_aware_discrimination(features, torch.zeros(1, 6, 6).long(), range(3, 5), torch.eye(2, 4))
    torch.testing.assert_close(value, torch.tensor(1.0))


def test_pixels_without_any_feature_do_not_blow_up_the_gradient() -> None:
    features = torch.ones(1, 4, 3, 3)
    features[..., 0, 0] = 0
    features.requires_grad_()
    labels = torch.full((1, 6, 6), 3)
    similarity_aware_discrimination(features, labels, range(3, 4), torch.eye(2, 4)).backward()
    assert features.grad is not None and features.grad.abs().max() < 10


def test_an_empty_region_constrains_nothing() -> None:
    features = torch.randn(1, 2, 3, 3, requires_grad=True)
    value = old_class_consistency(features, torch.randn(1, 2, 3, 3), torch.zeros(1, 6, 6))
    (5 * value).backward()
    assert value == 0 and features.grad is not None and features.grad.abs().max() == 0


def test_plan_never_replays_less_than_nothing() -> None:
    numbers, seen, new = torch.tensor([10.0, 5.0, 100.0]), torch.tensor([0.0, 9.0, 20.0]), torch.tensor([50.0, 4.0])
    plan = replay_plan(numbers, seen, new, 10, "overlapped")
    assert plan.counts == (0, 8) and plan.background_ratio == pytest.approx(9.9 - 0.5)
    assert plan.numbers.tolist() == pytest.approx([9.9, 5, 100])
    plan = replay_plan(numbers, seen, new, 10, "disjoint")
    assert plan.counts == (0, 10) and plan.numbers.tolist() == [10, 14, 120]


def bases(found) -> list:
    return [training for training in found.trainings.values() if training.shared]


def test_the_base_step_depends_on_what_step_0_reads(plan) -> None:
    """Both variants share one training, which another weight of an increment's loss leaves alone."""
    network = {"background": False, "head": "dkd"}
    (one,) = bases(plan("star", "star-m", **network))
    changed = [{"name": name, "hyper_parameters": {"consistency_weight": 1.0}} for name in ("star", "star-m")]
    (other,) = bases(plan(*changed, **network))
    assert one.spec == other.spec
    (weighted,) = bases(plan({"name": "star-m", "hyper_parameters": {"positive_weight": 30.0}}, **network))
    assert weighted.spec["method"]["hyper_parameters"]["positive_weight"] == 30.0


def test_a_network_with_a_background_channel_is_refused(plan) -> None:
    with pytest.raises(
        ConfigError,
        match=r"'star' with recipe 'small': the recipe does not suit the method: network\.background is True",
    ):
        plan("star")
