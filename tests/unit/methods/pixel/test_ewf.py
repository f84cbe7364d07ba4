"""EWF: what is averaged with what, what is frozen, and that it becomes its host where nothing is averaged."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import fields

import pytest
import torch
from contexts import step_context
from trainings import train

from model.methods.registry import build
from model.networks.deeplabv3.network import DeepLabV3
from model.scenario import Step
from model.training.step import frozen_copy

BASE, FIRST = Step(0, (), (11, 12)), Step(1, (11, 12), (13,))


@pytest.fixture
def network() -> DeepLabV3:
    torch.manual_seed(0)
    return DeepLabV3((2,), backbone="tiny", channels=8, rates=(1, 2, 3), output_stride=8, keep_stages=True)


def trained(network: DeepLabV3, method, stream) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """State before and after three iterations of the first increment."""
    network = deepcopy(network)
    old_model = frozen_copy(network)
    torch.manual_seed(1)
    method.grow(network, FIRST)
    train(
        network,
        method,
        FIRST,
        lambda start: stream(4, start=start),
        one_pass=lambda: [next(stream(4))],
        old_model=old_model,
        learning_rate=0.05,
        weight_decay=1e-4,
    )
    return old_model.state_dict(), network.state_dict()


def floats(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: value for key, value in state.items() if value.is_floating_point()}


HOSTS = pytest.mark.parametrize(("name", "host"), [("ewf", "mib"), ("ewf-plop", "plop")])


@HOSTS
def test_without_averaging_it_is_its_host(network, pixel_stream, name, host) -> None:
    method = build(name, {"fusion_weight": 1.0, "freeze_old_classifiers": False})
    _, ours = trained(network, method, pixel_stream)
    _, host = trained(network, build(host), pixel_stream)
    assert all(torch.equal(ours[key], value) for key, value in host.items())


def test_with_no_weight_of_the_step_old_classes_are_as_before(network, pixel_stream) -> None:
    before, after = trained(network, build("ewf", {"fusion_weight": 0.0}), pixel_stream)
    assert all(torch.equal(after[key], value) for key, value in floats(before).items())
    assert "cls.1.weight" in after


@HOSTS
def test_every_old_entry_moves_by_the_balanced_share(network, pixel_stream, name, host) -> None:
    before, host = trained(network, build(name, {"fusion_weight": 1.0}), pixel_stream)
    _, ours = trained(network, build(name), pixel_stream)
    share = (1 / (1 + 3)) ** 0.5  # one new class; two old ones and the background
    for key, value in floats(before).items():
        torch.testing.assert_close(ours[key], value + share * (host[key] - value))
    assert any("running_mean" in key and not torch.equal(ours[key], before[key]) for key in before)
    assert torch.equal(ours["cls.1.weight"], host["cls.1.weight"])
    counter = "backbone.bn1.num_batches_tracked"
    assert ours[counter] == host[counter]


def test_old_classifiers_are_frozen_after_their_initialisation(network, pixel_stream) -> None:
    before, after = trained(network, build("ewf", {"fusion_weight": 1.0}), pixel_stream)
    assert torch.equal(after["cls.0.weight"], before["cls.0.weight"])
    sunk = before["cls.0.bias"] - after["cls.0.bias"]
    torch.testing.assert_close(sunk, torch.tensor([2.0, 1.0, 1.0]).log())  # log(N + 1), of the background alone


def test_the_base_step_is_left_alone(network) -> None:
    before = deepcopy(network.state_dict())
    method = build("ewf")
    assert method.base_method == "finetuning"
    method.after_step(step_context(BASE, network))
    assert all(torch.equal(network.state_dict()[key], value) for key, value in before.items())
    everything = [id(p) for group in method.trainable(network, BASE).groups for p in group.parameters]
    assert sorted(everything) == sorted(id(p) for p in network.parameters())


def test_a_host_is_set_as_it_is_by_itself() -> None:
    fused = {"freeze_old_classifiers", "fusion_weight", "moved_share"}
    ours, theirs = build("ewf-plop"), build("plop")
    assert {f.name for f in fields(ours)} == fused | {f.name for f in fields(theirs)}
    assert all(getattr(ours, f.name) == getattr(theirs, f.name) for f in fields(theirs))
    assert ours.network_arguments == theirs.network_arguments


def test_losses_of_the_switches(network, pixel_stream) -> None:
    batch, old_model = next(pixel_stream(4)), frozen_copy(network)
    network.grow(1)
    outputs, old_outputs = network.eval()(batch.images), old_model(batch.images)
    context = step_context(FIRST, network, old_model=old_model)

    def terms(name: str, **values) -> dict[str, torch.Tensor]:
        return build(name, values).losses(context, batch, outputs, old_outputs, batch.labels)

    assert terms("ewf") == terms("mib")
    plain = terms("ewf", unbiased_classification=False, unbiased_distillation=False, distillation_weight=100.0)
    assert plain == terms("lwf")
