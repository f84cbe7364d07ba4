"""Fine-tuning, LwF, LwF-MC, ILT and MiB on a small network: what enters the loss, and what a step starts from."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from contexts import step_context
from torch import nn

from model.data.loading.pixel_batch import PixelBatch
from model.methods.base import Method
from model.methods.registry import build
from model.networks.deeplabv3.network import DeepLabV3
from model.networks.deeplabv3.outputs import PixelOutputs
from model.scenario import Step

NAMES = ["finetuning", "finetuning-replay", "lwf", "lwf-mc", "ilt", "mib"]
DISTILLING = ["lwf", "lwf-mc", "ilt", "mib"]
BASE, INCREMENT = Step(0, (), (11, 12, 13)), Step(1, (11, 12, 13), (14, 15))


def small_network() -> DeepLabV3:
    torch.manual_seed(0)
    return DeepLabV3((3,), backbone="tiny", channels=8, rates=(1, 2, 3))


def small_batch(labels: tuple[int, ...]) -> PixelBatch:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(2, 3, 32, 32, generator=generator)
    chosen = torch.randint(0, len(labels), (2, 32, 32), generator=generator)
    return PixelBatch(images, torch.tensor(labels)[chosen], ("a", "b"), torch.zeros(2, dtype=torch.bool))


def run(method: Method, network: nn.Module, old_model: nn.Module | None, batch: PixelBatch, step: Step) -> dict:
    outputs = network(batch.images)
    old_outputs = None
    if old_model is not None:
        with torch.no_grad():
            old_outputs = old_model.eval()(batch.images)
    context = step_context(step, network)
    targets = method.targets(context, batch, old_outputs)
    return method.losses(context, batch, outputs, old_outputs, targets)


@pytest.mark.parametrize("name", NAMES)
def test_base_step_has_a_class_loss_only_and_trains_everything(name) -> None:
    network, method = small_network(), build(name)
    terms = run(method, network, None, small_batch((0, 1, 2, 3, 255)), BASE)
    assert list(terms) == ["classification"]
    terms["classification"].backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    trained = [p for group in method.trainable(network, BASE).groups for p in group.parameters]
    assert {id(p) for p in trained} == {id(p) for p in network.parameters()}


def test_methods_that_share_a_base_step_have_the_same_loss_there() -> None:
    batch = small_batch((0, 1, 2, 3, 255))
    reference = run(build("finetuning"), small_network(), None, batch, BASE)["classification"]
    for name in NAMES:
        value = run(build(name), small_network(), None, batch, BASE)["classification"]
        shares = build(name).base_method == "finetuning"
        assert torch.equal(value, reference) == shares, name


@pytest.mark.parametrize("name", NAMES)
def test_increment(name) -> None:
    method, old_model = build(name), small_network()
    network = deepcopy(old_model)
    before = {key: value.clone() for key, value in old_model.state_dict().items()}
    method.grow(network, INCREMENT)
    assert network.classes_per_step == [3, 2]
    assert method.needs_old_model == (name in DISTILLING)
    batch = small_batch((0, 4, 5, 255))
    terms = run(method, network, old_model if method.needs_old_model else None, batch, INCREMENT)
    assert ("distillation" in terms) == (name in DISTILLING)
    assert ("features" in terms) == (name == "ilt")
    sum(terms.values()).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert all(parameter.grad is None for parameter in old_model.parameters())
    keys = [key for key in before if "running" not in key and "tracked" not in key]
    assert all(torch.equal(old_model.state_dict()[key], before[key]) for key in keys)


@pytest.mark.parametrize("name", DISTILLING)
def test_weights_scale_their_terms(name) -> None:
    batch, old_model = small_batch((0, 4, 5)), small_network()
    values = []
    for weight in (1, 3):
        method, network = build(name, {"distillation_weight": weight}), deepcopy(old_model)
        torch.manual_seed(5)
        method.grow(network, INCREMENT)
        values.append(run(method, network, deepcopy(old_model), batch, INCREMENT))
    torch.testing.assert_close(values[1]["distillation"], 3 * values[0]["distillation"])
    torch.testing.assert_close(values[1]["classification"], values[0]["classification"])


def test_mib_starts_where_the_old_network_stood() -> None:
    old_model = small_network().eval()
    images = small_batch((0,)).images
    network = deepcopy(old_model)
    build("mib").grow(network, INCREMENT)
    old, new = old_model(images).logits.softmax(1), network(images).logits.softmax(1)
    torch.testing.assert_close(new[:, 1:4], old[:, 1:])
    torch.testing.assert_close(new[:, [0, 4, 5]].sum(1), old[:, 0])


def test_mib_without_background_initialisation_keeps_the_background() -> None:
    network = small_network()
    before = network.cls[0].bias.clone()
    build("mib", {"background_initialisation": False}).grow(network, INCREMENT)
    assert torch.equal(network.cls[0].bias, before)
    assert not torch.equal(network.cls[1].weight[0], network.cls[0].weight[0])


def test_mib_does_not_punish_an_old_class_on_a_background_pixel() -> None:
    """The plausible mistake is the ordinary cross-entropy, which pushes old classes down wherever labels hide them."""
    network = small_network()
    old_model = deepcopy(network)
    network.grow(2)
    batch = small_batch((0,))
    terms = run(build("mib"), network, old_model, batch, INCREMENT)
    (gradient,) = torch.autograd.grad(terms["classification"], network.cls[0].bias)
    assert (gradient < 0).all()  # descent raises the background and every old class


@pytest.mark.parametrize("name", [*NAMES, "joint"])
def test_a_pixel_gets_the_class_with_the_largest_logit_or_the_background(name) -> None:
    logits = torch.tensor([[1.0, 0.5, -2.0], [-1.0, 3.0, 2.9], [-9.0, -8.0, -7.0]]).T.view(1, 3, 3, 1)
    outputs = PixelOutputs(logits, logits, logits)
    assert build(name).predict(outputs, BASE).flatten().tolist() == [0, 1, 2]


def test_exemplars_are_selected_for_replay_only(plan) -> None:
    memories = {run.method: [training.memory for training in run.trainings[1:]] for run in plan(*NAMES).runs}
    assert all((memory is not None) == (name == "finetuning-replay") for name in NAMES for memory in memories[name])


def test_joint_trains_once_on_all_classes(plan) -> None:
    joint, finetuning = plan("joint", "finetuning").runs
    (training,) = joint.trainings
    assert sorted(training.spec["step"]["current"]) == sorted(finetuning.scenario.order)
    assert training.spec["method"] == finetuning.trainings[0].spec["method"]


def increment_terms(name: str, hyper_parameters: dict, batch: PixelBatch) -> dict:
    method, old_model = build(name, hyper_parameters), small_network()
    network = deepcopy(old_model)
    torch.manual_seed(5)
    method.grow(network, INCREMENT)
    return run(method, network, old_model, batch, INCREMENT)


def test_the_disjoint_form_of_lwf_mc_asks_old_channels_for_their_old_answer_only() -> None:
    """Labels of the batch move new channels alone; with ``hard_background`` they move the background as well."""
    background, labelled = small_batch((0,)), small_batch((4,))
    for hyper_parameters, free in (
        ({"form": "disjoint"}, True),
        ({"form": "disjoint", "hard_background": True}, False),
    ):
        gradients = []
        for batch in (background, labelled):
            method, network = build("lwf-mc", hyper_parameters), small_network()
            old_model = deepcopy(network).eval()
            torch.manual_seed(5)
            method.grow(network, INCREMENT)
            terms = run(method, network, old_model, batch, INCREMENT)
            assert list(terms) == ["classification"]
            sum(terms.values()).backward()
            gradients.append((network.cls[0].weight.grad[0], network.cls[1].weight.grad[0]))
        assert torch.allclose(gradients[0][0], gradients[1][0]) == free
        assert not torch.allclose(gradients[0][1], gradients[1][1])


def test_the_base_step_of_lwf_mc_has_one_form() -> None:
    batch = small_batch((0, 1, 2, 3, 255))
    values = [
        run(build("lwf-mc", {"form": form}), small_network(), None, batch, BASE)["classification"]
        for form in ("combined", "disjoint")
    ]
    assert torch.equal(*values) and build("lwf-mc").base_fields == ()


def test_options_of_ilt_change_the_feature_term_alone() -> None:
    batch = small_batch((0, 4, 5))
    plain = increment_terms("ilt", {}, batch)
    for options in ({"feature_region": "old"}, {"feature_cosine": True}):
        terms = increment_terms("ilt", options, batch)
        assert not torch.equal(terms["features"], plain["features"])
        assert torch.equal(terms["distillation"], plain["distillation"])
    everything_old = small_batch((0,))
    torch.testing.assert_close(
        increment_terms("ilt", {"feature_region": "old"}, everything_old)["features"],
        increment_terms("ilt", {}, everything_old)["features"],
    )
