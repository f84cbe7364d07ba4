"""Adapter: prototypes that follow the features, what is replayed, what differs from STAR."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from contexts import step_context
from torch import nn

from model.methods.pixel.adapter import evaluation_mode
from model.methods.pixel.adapter_prototypes import Drift, adapted_statistics, adapter_replay_plan
from model.methods.pixel.star_features import ClassStatistics
from model.methods.registry import build
from model.networks.deeplabv3.network import DeepLabV3
from model.scenario import Step
from model.training.step import frozen_copy

BASE, FIRST = Step(0, (), (11, 12)), Step(1, (11, 12), (13,))


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


def increment(network, stream, **hyper_parameters):
    """A method, and the context of its first increment, planned."""
    network.eval()
    batches = [batch for batch, _ in zip(stream(3), range(3), strict=False)]
    base = step_context(BASE, network, batches=batches)
    method = build("adapter", hyper_parameters)
    base.state.update(method.before_step(base))
    state = method.after_step(base)
    old_model = frozen_copy(network)
    for net in (old_model, network):  # both are certain to see the first class everywhere
        net.cls[0].bias.data.copy_(torch.tensor([9.0, -9.0]))
    method.grow(network, FIRST)
    nn.init.constant_(network.cls[1].bias, -9.0)
    context = step_context(FIRST, network, old_model=old_model, batches=batches, state=state)
    context.state.update(method.before_step(context))
    return method, context


def test_prototypes_stay_where_nothing_has_drifted(network, pixel_stream) -> None:
    method, context = increment(network, pixel_stream)
    method.adapt(context)
    used = method.statistics_in_use(context.state)
    torch.testing.assert_close(used.prototypes, context.state["prototypes"])
    torch.testing.assert_close(used.deviations, context.state["deviations"])


def test_a_class_follows_its_features_and_the_others_stay() -> None:
    old = ClassStatistics(torch.eye(2, 3), torch.zeros(2, 3), torch.ones(2, 2))
    drift = Drift.none(old.prototypes)
    features = torch.tensor([0.0, 0.0, 5.0]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    old_features = torch.tensor([2.0, 0.0, 0.0]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    drift.observe(old_features, features, torch.tensor([[[1, 1], [0, 0]]]))
    moved = adapted_statistics(old, drift, torch.tensor([8.0, 8.0]))
    torch.testing.assert_close(moved.prototypes[0], torch.tensor([0.75, 0.0, 0.25]))  # a quarter of the way from x to z
    torch.testing.assert_close(moved.deviations[0], torch.tensor([0.25, 0.0, 0.25]))
    assert torch.equal(moved.prototypes[1], old.prototypes[1]) and not moved.deviations[1].any()


@pytest.mark.parametrize(
    ("iteration", "due"), [(0, False), (18, False), (19, True), (20, False), (39, True), (99, False)]
)
def test_adaptation_happens_every_few_epochs_and_not_twice_at_the_end(network, pixel_stream, iteration, due) -> None:
    """Epochs of two iterations, every tenth of them; after the last one the end of the step does it."""
    method, planned = increment(network, pixel_stream)
    context = step_context(
        FIRST,
        network,
        old_model=planned.old_model,
        batches=list(planned.batches()),
        state=deepcopy(planned.state),
        iteration=iteration,
        iterations=100,
    )
    method.after_update(context)
    assert ("adapted_prototypes" in context.state) is due


def test_a_pass_leaves_every_module_in_its_mode(network) -> None:
    network.train()
    network.backbone.bn1.eval()
    before = {name: module.training for name, module in network.named_modules()}
    with pytest.raises(RuntimeError, match="inside"), evaluation_mode(network):
        assert not any(module.training for module in network.modules())
        raise RuntimeError("inside")
    assert {name: module.training for name, module in network.named_modules()} == before


@pytest.mark.parametrize("adaptation", [True, False])
def test_what_a_step_hands_on(network, pixel_stream, adaptation) -> None:
    method, context = increment(network, pixel_stream, adaptation=adaptation)
    old = context.state["prototypes"].clone()
    with torch.no_grad():  # features have moved
        for parameter in network.aspp.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    left = method.after_step(context)
    known = len(FIRST.seen)
    assert left["prototypes"].shape[0] == left["deviations"].shape[0] == known and left["norms"].shape == (2, known)
    assert set(left) == {"prototypes", "deviations", "norms", "numbers", "current_numbers"}
    assert torch.equal(left["prototypes"][:2], old) is not adaptation
    assert len(left["current_numbers"]) == (1 + known if adaptation else known)


def test_numbers_that_a_run_without_adaptation_did_not_keep_are_filled_in(network, pixel_stream) -> None:
    method, context = increment(network, pixel_stream)
    left = method.after_step(context)
    left["current_numbers"] = left["current_numbers"][:-1]
    network.grow(1)
    step = Step(2, FIRST.seen, (14,))
    following = step_context(step, network, old_model=frozen_copy(network), batches=list(context.batches()), state=left)
    following.old_model.cls = following.old_model.cls[:-1]
    following.state.update(method.before_step(following))
    assert len(method.after_step(following)["current_numbers"]) == 1 + len(step.seen)


def test_replay_never_stops_and_counts_of_old_classes_stay() -> None:
    numbers, seen, new = torch.tensor([10.0, 5.0, 100.0]), torch.tensor([4.0, 9.0, 20.0]), torch.tensor([50.0, 4.0])
    plan = adapter_replay_plan(numbers, seen, new, 10, "overlapped")
    assert plan.counts == (1, 8)
    assert plan.background_ratio == pytest.approx(
        (9.9 - 4) / 4
    )  # more of class 1 is seen than there was: all of 4 pixels
    assert plan.numbers.tolist() == pytest.approx([13.9, 5, 100])
    plan = adapter_replay_plan(numbers, seen, new, 10, "disjoint")
    assert plan.counts == (1, 10) and plan.background_ratio == pytest.approx(2.5)
    assert plan.numbers.tolist() == [14, 5, 100]
    few = adapter_replay_plan(numbers, seen, torch.tensor([50.0, 400.0]), 10, "overlapped")
    assert few.background_ratio == 0


def test_uncertainty_alone_reaches_old_classifiers(network, pixel_stream) -> None:
    method, context = increment(network, pixel_stream)
    nn.init.zeros_(network.cls[0].bias)
    batch = next(pixel_stream(1))
    gradients = {}
    outputs, old_outputs = network(batch.images), context.old_model(batch.images)
    targets = method.targets(context, batch, old_outputs)
    for name, term in method.losses(context, batch, outputs, old_outputs, targets).items():
        (gradient,) = torch.autograd.grad(term, network.cls[0].weight, retain_graph=True, allow_unused=True)
        gradients[name] = gradient is not None and bool(gradient.any())
    assert gradients == {"classification": False, "consistency": False, "discrimination": False, "uncertainty": True}


def test_the_base_step_is_that_of_star(plan) -> None:
    found = plan("star", "adapter", background=False, head="dkd")
    assert sum(training.shared for training in found.trainings.values()) == 1
