"""NeST: combined classifiers, what pre-tuning may change, and the hosts."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from contexts import alone, step_context
from torch import nn

from model.data.loading.pixel_batch import PixelBatch
from model.methods.pixel.nest_classifiers import CombinedClassifiers, Reactions, old_rows
from model.methods.registry import build
from model.networks.deeplabv3.network import DeepLabV3
from model.scenario import Step
from model.training.optimiser import freeze_untrained
from model.training.step import frozen_copy

BASE, FIRST = Step(0, (), (11, 12)), Step(1, (11, 12), (13, 14))


@pytest.fixture
def network() -> DeepLabV3:
    torch.manual_seed(0)
    return DeepLabV3((2,), backbone="tiny", channels=8, rates=(1, 2, 3), output_stride=8, keep_stages=True)


def combined(reactions: torch.Tensor, bias: float = 0.5) -> CombinedClassifiers:
    torch.manual_seed(0)
    return CombinedClassifiers(torch.randn(3, 8), torch.randn(3), reactions, torch.tensor(bias))


def test_a_class_that_is_all_background_starts_as_the_background() -> None:
    """Shares all on the background and matrices of ones: the row is the background's, up to its length."""
    classifiers = combined(torch.ones(1, 3, 8))
    with torch.no_grad():
        classifiers.shares.copy_(torch.tensor([[1.0, 0.0, 0.0]]))
    torch.testing.assert_close(classifiers.new_rows[0], classifiers.rows[0])


def test_lengths_after_writing(network) -> None:
    classifiers = combined(torch.rand(2, 3, 8))
    network.grow(2)
    with torch.no_grad():
        classifiers.scale.mul_(3)
        classifiers.biases.copy_(torch.tensor([0.1, -0.2]))
        network.cls[0].weight.copy_(classifiers.rows[:, :, None, None])
        network.cls[0].bias.copy_(classifiers.old_biases)
    old = network.cls[0].weight.clone()
    classifiers.write(network)
    base, new = network.cls[0].weight.flatten(1), network.cls[1].weight.flatten(1)
    torch.testing.assert_close(base, old.flatten(1))  # scaling alone leaves the background's direction
    torch.testing.assert_close(new.norm(dim=1).mean(), base.norm(dim=1).mean())
    torch.testing.assert_close(network.cls[1].bias.norm(), classifiers.old_biases.norm())
    assert network.cls[1].bias[0] > 0 > network.cls[1].bias[1]


def test_reactions_are_measured_where_the_class_is() -> None:
    rows = torch.tensor([[1.0, -1.0], [2.0, 0.0]])
    features = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1).expand(1, 2, 2, 2)
    logits = torch.tensor([0.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 4, 4)
    labels = torch.zeros(1, 4, 4, dtype=torch.long)
    labels[:, :2] = 2
    reactions = Reactions.none(2, rows)
    reactions.observe(features, logits, labels, rows, 128)
    mean = reactions.mean(alone)
    torch.testing.assert_close(mean[0], torch.tensor([[0.5, 0.0], [0.5, 0.0]], dtype=torch.double))
    assert reactions.counts.tolist() == [128 * 64, 0]
    assert not mean[1].any()  # nothing of this class in the crops: no number would come of it


def test_reactions_of_all_processes_count() -> None:
    reactions = Reactions.none(1, torch.ones(2, 3))
    reactions.sums += 6
    reactions.counts += 2
    doubled = reactions.mean(lambda tensor, how: 2 * tensor if tensor is reactions.sums else tensor)
    assert (doubled == 6).all()


def batches(stream) -> list[PixelBatch]:
    def shifted(batch: PixelBatch) -> PixelBatch:
        labels = torch.where(batch.labels > 0, batch.labels + 2, 0)
        return PixelBatch(batch.images, labels, batch.names, batch.from_memory)

    return [shifted(batch) for batch, _ in zip(stream(3), range(3), strict=False)]


@pytest.mark.parametrize("name", ["nest", "nest-plop"])
def test_pretuning_changes_classifiers_and_running_statistics_only(network, pixel_stream, name) -> None:
    method, old_model = build(name, {"pretuning_epochs": 2}), frozen_copy(network)
    method.grow(network, FIRST)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    network.eval()
    state = method.before_step(step_context(FIRST, network, old_model=old_model, batches=batches(pixel_stream)))
    assert set(state) == ({"thresholds"} if name == "nest-plop" else set())
    changed = {key for key, value in network.state_dict().items() if not torch.equal(value, before[key])}
    classifiers = {key for key in changed if key.startswith("cls.")}
    assert classifiers == {"cls.0.weight", "cls.1.weight", "cls.1.bias"}
    assert all("running" in key or "num_batches" in key for key in changed - classifiers) and changed - classifiers
    assert torch.equal(network.cls[0].weight[1:], before["cls.0.weight"][1:])
    assert all(torch.isfinite(value).all() for value in network.state_dict().values())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_crop_without_any_new_class_leaves_finite_classifiers(network) -> None:
    method, old_model = build("nest"), frozen_copy(network)
    method.grow(network, FIRST)
    images, labels = torch.randn(2, 3, 32, 32), torch.zeros(2, 32, 32, dtype=torch.long)
    empty = PixelBatch(images, labels, ("a", "b"), torch.zeros(2, dtype=torch.bool))
    method.before_step(step_context(FIRST, network, old_model=old_model, batches=[empty]))
    assert all(torch.isfinite(value).all() for value in network.state_dict().values())


def test_the_base_step_is_fine_tunings(network, plan) -> None:
    method = build("nest")
    before = {key: value.clone() for key, value in network.state_dict().items()}
    assert method.before_step(step_context(BASE, network)) == {}
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    found = plan("finetuning", "nest", "nest-plop", keep_stages=True)
    assert sum(training.shared for training in found.trainings.values()) == 1


@pytest.mark.parametrize("frozen", [False, True])
def test_past_classifiers_can_be_frozen(network, frozen) -> None:
    method = build("nest", {"freeze_past_classifiers": frozen})
    method.grow(network, FIRST)
    freeze_untrained(network, method.trainable(network, FIRST).groups)
    assert {name for name, p in network.named_parameters() if not p.requires_grad} == (
        {"cls.0.weight", "cls.0.bias"} if frozen else set()
    )


@pytest.mark.parametrize(("name", "host"), [("nest", "mib"), ("nest-plop", "plop")])
def test_a_host_is_set_as_it_is_by_itself(name, host) -> None:
    """Every hyper-parameter of the host but the initialisation of new classifiers, which pre-tuning replaces."""
    theirs = type(build(host))
    shared = {f.name for f in fields(theirs)} - {"background_initialisation"}
    assert shared <= {f.name for f in fields(type(build(name)))}
    assert build(name).host == theirs(background_initialisation=False)
    changed = {"distillation_weight": 3.0} if host == "mib" else {"feature_weight": 3.0, "released_median": False}
    assert build(name, changed).host == theirs(**changed, background_initialisation=False)


def test_the_rows_of_all_earlier_steps_are_combined(network) -> None:
    network.grow(1)
    network.grow(1)
    rows, biases = old_rows(network)
    assert rows.shape == (4, 8) and torch.equal(rows[3], network.cls[1].weight.flatten()) and len(biases) == 4
    assert not rows.requires_grad
    assert isinstance(network.cls[2], nn.Conv2d)
