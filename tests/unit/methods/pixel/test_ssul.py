"""SSUL: the unknown class, heads that start as copies, what trains, and where exemplars' labels go."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from itertools import repeat

import pytest
import torch
from contexts import step_context
from torch import nn
from trainings import train

from model.data.loading.pixel_batch import PixelBatch
from model.methods.pixel.ssul import channel_labels
from model.methods.registry import build
from model.networks.deeplabv3.network import NetworkError
from model.networks.deeplabv3.outputs import PixelOutputs
from model.networks.deeplabv3.released_weights import load_weights
from model.networks.deeplabv3.ssul_network import SsulDeepLabV3
from model.networks.registry import UnsuitableNetworkError, check_requirements
from model.scenario import Step
from model.training.optimiser import freeze_untrained
from model.training.step import frozen_copy

BASE, INCREMENT = Step(0, (), (11, 12)), Step(1, (11, 12), (13, 14))


@pytest.fixture
def network() -> SsulDeepLabV3:
    torch.manual_seed(0)
    return SsulDeepLabV3((2,), backbone="tiny", channels=8, rates=(1, 2, 3), output_stride=8)


@pytest.fixture
def batch(pixel_stream) -> PixelBatch:
    found = next(pixel_stream(3))
    saliency = torch.zeros_like(found.labels, dtype=torch.bool)
    saliency[:, :16] = True
    return replace(found, saliency=saliency)


def test_channels(network, batch) -> None:
    assert network(batch.images).logits.shape == (2, 2 + 2, 32, 32)
    network.grow(3)
    assert network(batch.images).logits.shape == (2, 2 + 2 + 3, 32, 32)
    assert network.classes_per_step == [2, 3] and len(network.heads) == 4
    with pytest.raises(NetworkError, match="at least one new class"):
        network.grow(0)


def test_a_new_head_says_what_unknown_says(network, batch) -> None:
    network(batch.images)  # statistics of the unknown head that are not the initial ones
    before = {key: value.clone() for key, value in network.state_dict().items()}
    build("ssul").grow(network, INCREMENT)
    logits = network.eval()(batch.images).logits
    for channel in (4, 5):
        torch.testing.assert_close(logits[:, channel], logits[:, 0])
    assert all(torch.equal(network.state_dict()[key], value) for key, value in before.items())


def test_unlabelled_pixels_are_parted() -> None:
    labels, salient = torch.tensor([[[0, 0, 1, 3, 255]]]), torch.tensor([[[True, False, True, False, True]]])
    assert channel_labels(labels, salient).tolist() == [[[0, 1, 2, 4, 255]]]
    assert channel_labels(labels, None).tolist() == [[[0, 0, 2, 4, 255]]]


@pytest.mark.parametrize("unknown", ["saliency", "everything"])
def test_saliency_is_asked_for_where_it_is_read(network, batch, unknown) -> None:
    method = build("ssul", {"unknown": unknown})
    assert method.needs_saliency == (unknown == "saliency")
    given = batch if method.needs_saliency else replace(batch, saliency=None)
    targets = method.targets(step_context(BASE), given, None)
    assert set(targets[:, 16:].unique().tolist()) == ({1, 2, 3} if method.needs_saliency else {0, 2, 3})
    assert set(targets[:, :16].unique().tolist()) == {0, 2, 3}


def test_pseudo_labels_fill_what_is_not_labelled(batch) -> None:
    logits = torch.full((2, 4, 32, 32), -5.0)
    logits[:, 2, :8] = 2.0  # sure of class 1
    logits[:, 3, 8:16] = 0.5  # not sure enough of class 2
    logits[:, 0, 16:] = 9.0  # sure of unknown
    outputs = PixelOutputs(logits, logits, logits)
    batch = replace(batch, labels=torch.where(batch.labels > 0, batch.labels + 2, 0))
    targets = build("ssul").targets(step_context(INCREMENT), batch, outputs)
    bare = channel_labels(batch.labels, batch.saliency)
    free = batch.labels == 0
    assert (targets[:, :8][free[:, :8]] == 2).all()
    assert torch.equal(targets[:, 8:], bare[:, 8:]) and torch.equal(targets[~free], bare[~free])


def test_what_trains(network) -> None:
    method = build("ssul")
    base = method.trainable(network, BASE)
    assert [group.learning_rate_factor for group in base.groups] == [0.1, 1] and not base.evaluation_modules
    assert freeze_untrained(network, base.groups) == sum(p.numel() for p in network.parameters())
    method.grow(network, INCREMENT)
    trainable = method.trainable(network, INCREMENT)
    assert [group.learning_rate_factor for group in trainable.groups] == [1, 1e-4, 1]
    freeze_untrained(network, trainable.groups)
    trained = {name for name, p in network.named_parameters() if p.requires_grad}
    layers = ("0.weight", "3.weight", "3.bias")
    assert trained == {f"classifier.head.{head}.{layer}" for head in (0, 1, 3) for layer in layers}
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {id(module) for module in trainable.evaluation_modules} == {id(module) for module in norms}


def test_old_classes_never_change(network, batch) -> None:
    """The promise of the frozen extractor: an increment leaves the logits of old classes as they were."""
    network(batch.images)
    method, old_model = build("ssul"), frozen_copy(network)
    method.grow(network, INCREMENT)
    train(network, method, INCREMENT, lambda start: repeat(batch), old_model=old_model, learning_rate=0.5)
    new, old = network.eval()(batch.images).logits, old_model(batch.images).logits
    assert torch.equal(new[:, 2:4], old[:, 2:4])
    assert not torch.allclose(new[:, 0], old[:, 0])


def test_decision() -> None:
    probabilities = torch.tensor([[0.4, 0.3, 0.6, 0.1], [0.1, 0.2, 0.6, 0.4], [0.0, 0.1, 0.2, 0.3]])
    logits = torch.logit(probabilities.clamp(1e-6)).T.view(1, 4, 3, 1)
    prediction = build("ssul").predict(PixelOutputs(logits, logits, logits), BASE)
    assert prediction.flatten().tolist() == [0, 1, 2]  # 0.4 + 0.3 beats 0.6


@pytest.mark.parametrize("released", [True, False])
def test_labels_of_exemplars(batch, released) -> None:
    """As released they are not shifted: background counts as unknown, class k as class k - 1."""
    method = build("ssul-m", {"released_memory_labels": released})
    batch = replace(batch, from_memory=torch.tensor([False, True]))
    targets = method.targets(step_context(BASE), batch, None)
    shifted = build("ssul").targets(step_context(BASE), batch, None)
    assert torch.equal(targets[0], shifted[0])
    assert torch.equal(targets[1], batch.labels[1] if released else shifted[1])


def test_ssul_m_replays_and_shares_the_base_step(plan) -> None:
    methods = [{"name": name, "hyper_parameters": {"unknown": "everything"}} for name in ("ssul", "ssul-m")]
    without, with_memory = plan(*methods, name="deeplabv3-ssul").runs
    assert without.trainings[0] is with_memory.trainings[0]
    assert all(training.memory is None for training in without.trainings)
    assert all(training.memory is not None for training in with_memory.trainings[1:])


def test_networks_and_methods_that_do_not_go_together() -> None:
    check_requirements({"name": "deeplabv3-ssul"}, build("ssul").network_arguments)
    with pytest.raises(UnsuitableNetworkError, match=r"network\.name is 'deeplabv3', but has to be 'deeplabv3-ssul'"):
        check_requirements({"name": "deeplabv3"}, build("ssul").network_arguments)
    with pytest.raises(UnsuitableNetworkError, match=r"network\.name is 'deeplabv3-ssul'"):
        check_requirements({"name": "deeplabv3-ssul"}, build("finetuning").network_arguments)


def test_a_released_checkpoint_loads_by_name(network, tmp_path) -> None:
    wanted = deepcopy(network)
    torch.save({"model_state": {f"module.{k}": v for k, v in network.state_dict().items()}}, tmp_path / "w.pth")
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    load_weights(network, tmp_path / "w.pth", "ssul")
    assert all(torch.equal(value, wanted.state_dict()[key]) for key, value in network.state_dict().items())
