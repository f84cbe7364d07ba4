"""BARM: how a branch starts, what trains, what old heads learn, and how it decides."""

from __future__ import annotations

import pytest
import torch
from contexts import step_context
from torch import nn
from torch.nn import functional

from model.data.loading.pixel_batch import PixelBatch
from model.methods.registry import build
from model.networks.deeplabv3.barm_network import BarmDeepLabV3
from model.networks.deeplabv3.outputs import PixelOutputs
from model.networks.registry import UnsuitableNetworkError, check_requirements
from model.scenario import Step
from model.training.optimiser import freeze_untrained
from model.training.step import frozen_copy

BASE, FIRST, SECOND = Step(0, (), (11, 12)), Step(1, (11, 12), (13,)), Step(2, (11, 12, 13), (14, 15))


@pytest.fixture
def network() -> BarmDeepLabV3:
    torch.manual_seed(0)
    return BarmDeepLabV3((2,), backbone="tiny", channels=8, rates=(1, 2, 3), output_stride=8)


def terms_of(method, network, old_model, step: Step, batch: PixelBatch) -> dict[str, torch.Tensor]:
    context = step_context(step, network, old_model=old_model)
    with torch.no_grad():
        old_outputs = None if old_model is None else old_model(batch.images)
    outputs = method.forward(context, batch, old_outputs)
    return method.losses(context, batch, outputs, old_outputs, method.targets(context, batch, old_outputs))


def shown(batch: PixelBatch, step: Step) -> PixelBatch:
    """Labels as the step shows them: its own classes and background."""
    labels = torch.where(batch.labels > 0, batch.labels + len(step.past), 0)
    return PixelBatch(batch.images, labels, batch.names, batch.from_memory)


def test_three_steps_have_their_terms(network, pixel_stream) -> None:
    method, batch = build("barm"), next(pixel_stream(2))
    assert set(terms_of(method, network, None, BASE, batch)) == {"classification"}
    for step in (FIRST, SECOND):
        old_model = frozen_copy(network)
        method.grow(network, step)
        terms = terms_of(method, network, old_model, step, shown(batch, step))
        assert set(terms) == {"classification", "triplet", "residual", "features", "groups"}
        assert all(torch.isfinite(term) for term in terms.values())


def test_classes_of_earlier_steps_are_held_by_distillation_alone(network, pixel_stream) -> None:
    method, old_model = build("barm"), frozen_copy(network)
    method.grow(network, FIRST)
    for name, moves in (("classification", False), ("groups", True)):
        network.zero_grad()
        network.train()
        terms_of(method, network, old_model, FIRST, shown(next(pixel_stream(2)), FIRST))[name].backward()
        gradient = network.classifier.head[0].weight.grad
        assert (gradient is not None and bool(gradient.any())) == moves, name


def test_pseudo_labels_fill_what_is_not_labelled(network) -> None:
    labels = torch.zeros(1, 8, 8, dtype=torch.long)
    labels[:, 4:] = 3
    labels[:, 7] = 255
    batch = PixelBatch(torch.zeros(1, 3, 8, 8), labels, ("a",), torch.zeros(1, dtype=torch.bool))
    logits = torch.full((1, 3, 8, 8), -5.0)
    logits[:, 1, :, :2] = 2.0  # sure of class 1
    logits[:, 2, :, 2:4] = 0.5  # not sure enough of class 2
    logits[:, 0, :, 4:] = 9.0  # sure of the background
    targets = build("barm").targets(step_context(FIRST), batch, PixelOutputs(logits, logits, logits))
    assert (targets[:, :4, :2] == 1).all() and (targets[:, :4, 2:] == 0).all()
    assert torch.equal(targets[:, 4:], labels[:, 4:])


def test_what_trains(network) -> None:
    method = build("barm")
    base = method.trainable(network, BASE)
    assert [group.learning_rate_factor for group in base.groups] == [0.1, 1] and not base.evaluation_modules
    assert freeze_untrained(network, base.groups) == sum(p.numel() for p in network.parameters())
    method.grow(network, FIRST)
    method.grow(network, SECOND)
    trainable = method.trainable(network, SECOND)
    assert [group.learning_rate_factor for group in trainable.groups] == [1, 1, 0.1]
    freeze_untrained(network, trainable.groups)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    frozen = {id(p) for p in network.parameters() if not p.requires_grad}
    assert frozen == {id(p) for norm in norms for p in norm.parameters()}
    newest = {id(p) for p in (*network.classifier.ear[1].parameters(), *network.classifier.head[2].parameters())}
    assert {id(p) for p in trainable.groups[0].parameters} == newest - frozen
    old_rate = {id(p) for p in trainable.groups[2].parameters}
    for module in (
        network.backbone,
        network.classifier.head_pre,
        network.classifier.ear[0],
        network.classifier.head[1],
    ):
        assert {id(p) for p in module.parameters()} - frozen <= old_rate


@pytest.mark.parametrize("released", [True, False])
def test_dropout_of_increments(network, released) -> None:
    method = build("barm", {"released_dropout": released})
    method.grow(network, FIRST)
    kept = method.trainable(network, FIRST).evaluation_modules
    assert any(isinstance(module, nn.Dropout) for module in kept) is not released


def test_decision_compares_sigmoids_at_the_size_of_the_logits() -> None:
    torch.manual_seed(0)
    coarse = 6 * torch.randn(1, 3, 2, 2)
    logits = functional.interpolate(coarse, (16, 16), mode="bilinear", align_corners=False)
    outputs = PixelOutputs(logits, coarse, coarse, coarse)
    prediction = build("barm").predict(outputs, BASE)
    scores = functional.interpolate(coarse.sigmoid(), (16, 16), mode="bilinear", align_corners=False)
    assert torch.equal(prediction, scores.argmax(dim=1))
    assert not torch.equal(prediction, logits.argmax(dim=1))


def test_only_its_own_network_will_do() -> None:
    check_requirements({"name": "deeplabv3-barm"}, build("barm").network_arguments)
    with pytest.raises(UnsuitableNetworkError, match=r"network\.name is 'deeplabv3', but has to be 'deeplabv3-barm'"):
        check_requirements({"name": "deeplabv3"}, build("barm").network_arguments)
