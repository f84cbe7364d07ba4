"""DKD: where new classes start, what trains, what holds the old ones, and how it decides."""

from __future__ import annotations

import pytest
import torch
from contexts import step_context
from torch import nn

from model.data.loading.pixel_batch import PixelBatch
from model.methods.registry import build
from model.networks.deeplabv3.initialisation import initialise_from_auxiliary
from model.networks.deeplabv3.network import DeepLabV3
from model.networks.deeplabv3.outputs import PixelOutputs
from model.networks.registry import UnsuitableNetworkError, check_requirements
from model.scenario import Step
from model.training.optimiser import freeze_untrained
from model.training.step import frozen_copy

BASE, FIRST = Step(0, (), (11, 12)), Step(1, (11, 12), (13, 14))


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
        auxiliary=True,
    )


def terms_of(method, network, old_model, step: Step, batch: PixelBatch) -> dict[str, torch.Tensor]:
    context = step_context(step, network, old_model=old_model)
    with torch.no_grad():
        old_outputs = None if old_model is None else old_model(batch.images)
    outputs = method.forward(context, batch, old_outputs)
    return method.losses(context, batch, outputs, old_outputs, method.targets(context, batch, old_outputs))


def test_new_classes_start_where_only_negatives_were_seen(network) -> None:
    build("dkd").grow(network, FIRST)
    logits = network.eval()(torch.randn(2, 3, 32, 32)).logits
    assert logits.shape[1] == 1 + 2 + 2
    for channel in (3, 4):
        torch.testing.assert_close(logits[:, channel], logits[:, 0])


def test_an_auxiliary_classifier_is_needed(network) -> None:
    with pytest.raises(ValueError, match="an auxiliary classifier has one channel, but the first one has 2"):
        initialise_from_auxiliary(network.cls[1:])


def test_terms_of_the_base_step_and_of_an_increment(network, pixel_stream) -> None:
    batch, method = next(pixel_stream(3)), build("dkd")
    assert set(terms_of(method, network, None, BASE, batch)) == {"classification", "auxiliary"}
    old_model = frozen_copy(network)
    method.grow(network, FIRST)
    distilled = {"distillation", "positive_reasoning", "negative_reasoning"}
    terms = terms_of(method, network, old_model, FIRST, batch)
    assert set(terms) == {"classification", "auxiliary"} | distilled
    without = build("dkd", {f"{name}_weight": 0.0 for name in distilled})
    zero = terms_of(without, network, old_model, FIRST, batch)
    assert all(zero[name] == 0 < terms[name] for name in distilled)


def test_the_classification_teaches_new_classifiers_alone(network, pixel_stream) -> None:
    old_model, method = frozen_copy(network), build("dkd")
    method.grow(network, FIRST)
    terms_of(method, network, old_model, FIRST, next(pixel_stream(5)))["classification"].backward()
    moved = [classifier.weight.grad is not None and bool(classifier.weight.grad.any()) for classifier in network.cls]
    assert moved == [False, False, True]


def test_positives_of_the_two_phases_weigh_differently(network, pixel_stream) -> None:
    batch = next(pixel_stream(3))
    light, heavy = (build("dkd", {"base_positive_weight": weight}) for weight in (1.0, 9.0))
    values = [terms_of(method, network, None, BASE, batch)["classification"] for method in (light, heavy)]
    assert values[1] > values[0]
    torch.manual_seed(1)
    old_model = frozen_copy(network)
    heavy.grow(network, FIRST)
    network.eval()
    values = [terms_of(method, network, old_model, FIRST, batch)["classification"] for method in (light, heavy)]
    assert values[0] == values[1]


def test_labels_of_past_classes_count_as_background(network, pixel_stream) -> None:
    """They are in exemplars of DKD-M."""
    batch, method, old_model = next(pixel_stream(5)), build("dkd-m"), frozen_copy(network)
    method.grow(network, FIRST)
    network.eval()
    hidden = torch.where(batch.labels <= len(FIRST.past), 0, batch.labels)
    other = PixelBatch(batch.images, hidden, batch.names, batch.from_memory)
    seen, unseen = (terms_of(method, network, old_model, FIRST, b) for b in (batch, other))
    assert not torch.equal(batch.labels, hidden) and seen == unseen


def test_what_trains(network) -> None:
    method = build("dkd")
    base = method.trainable(network, BASE)
    assert [group.learning_rate_factor for group in base.groups] == [1, 10, 10, 10] and not base.evaluation_modules
    assert {group.weight_decay for group in base.groups} == {None}
    assert freeze_untrained(network, base.groups) == sum(p.numel() for p in network.parameters())
    method.grow(network, FIRST)
    trainable = method.trainable(network, FIRST)
    assert [group.learning_rate_factor for group in trainable.groups] == [1, 10, 10, 10, 10]
    assert [group.weight_decay for group in trainable.groups] == [0, 0, 0, 0, None]
    assert trainable.groups[-1].parameters == tuple(network.cls[-1].parameters())
    freeze_untrained(network, trainable.groups)
    frozen = {name for name, p in network.named_parameters() if not p.requires_grad}
    norms = {name for name, m in network.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert frozen == {f"{name}.{leaf}" for name in norms for leaf in ("weight", "bias")}
    assert any(isinstance(module, nn.Dropout) for module in trainable.evaluation_modules)


def test_decision() -> None:
    logits = torch.tensor([[5.0, -0.1, -0.2], [5.0, 0.3, 0.1], [5.0, -2.0, 0.4]]).T.view(1, 3, 3, 1)
    prediction = build("dkd").predict(PixelOutputs(logits, logits, logits), BASE)
    assert prediction.flatten().tolist() == [0, 1, 2]  # the auxiliary classifier has no say


def test_dkd_m_shares_the_base_step() -> None:
    method = build("dkd-m")
    assert (method.base_method, method.memory_policy, method.replay_mixing) == ("dkd", "annotations", "concatenate")


def test_networks_without_an_auxiliary_classifier_are_refused() -> None:
    recipe = {"name": "deeplabv3", "head": "dkd", "background": False}
    check_requirements({**recipe, "auxiliary": True}, build("dkd").network_arguments)
    with pytest.raises(UnsuitableNetworkError, match=r"network\.auxiliary is False, but has to be True"):
        check_requirements(recipe, build("dkd").network_arguments)
