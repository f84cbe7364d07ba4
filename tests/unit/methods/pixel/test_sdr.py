"""SDR on a small network: what is counted in which setting, what a step starts from, and what each weight switches."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from contexts import step_context
from torch import Tensor

from model.data.loading.pixel_batch import PixelBatch
from model.losses.reduced_labels import labels_at
from model.methods.base import Context
from model.methods.pixel.sdr import SDR, visible_classes
from model.methods.registry import build
from model.networks.deeplabv3.network import DeepLabV3
from model.scenario import Step

BASE, INCREMENT = Step(0, (), (11, 12, 13)), Step(1, (11, 12, 13), (14, 15))
TERMS = {"distillation", "matching", "attraction", "repulsion", "sparsity"}


def small_network() -> DeepLabV3:
    torch.manual_seed(0)
    return DeepLabV3((3,), backbone="tiny", channels=8, rates=(1, 2, 3))


def batch_of(labels: tuple[int, ...], seed: int = 1) -> PixelBatch:
    """Labels in patches of 8 x 8, so that they survive on the grid of the features."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(2, 3, 64, 64, generator=generator)
    coarse = torch.tensor(labels)[torch.randint(0, len(labels), (2, 8, 8), generator=generator)]
    grown = coarse.repeat_interleave(8, 1).repeat_interleave(8, 2)
    return PixelBatch(images, grown, ("a", "b"), torch.zeros(2, dtype=torch.bool))


def run(method: SDR, network: DeepLabV3, context: Context, batch: PixelBatch) -> dict[str, Tensor]:
    old_outputs = None
    if context.old_model is not None:
        with torch.no_grad():
            old_outputs = context.old_model.eval()(batch.images)
    outputs = method.forward(context, batch, old_outputs)
    return method.losses(context, batch, outputs, old_outputs, method.targets(context, batch, old_outputs))


def increment(hyper_parameters: dict[str, Any], setting: str = "disjoint", labels: tuple[int, ...] = (0, 4, 5)) -> Any:
    """Terms and context of one batch after a base step of one batch."""
    method, old_model = build("sdr", hyper_parameters), small_network()
    first = step_context(BASE, old_model, setting=setting)
    run(method, old_model, first, batch_of((0, 1, 2, 3)))
    network = deepcopy(old_model)
    torch.manual_seed(3)
    method.grow(network, INCREMENT)
    context = step_context(INCREMENT, network, setting=setting, old_model=old_model, state=first.state)
    return run(method, network, context, batch_of(labels, seed=2)), context


@pytest.mark.parametrize(
    ("setting", "step", "counted"),
    [
        ("overlapped", 0, False),
        ("overlapped", 1, False),
        ("disjoint", 0, True),
        ("disjoint", 2, False),
        ("partition", 0, True),
        ("partition", 1, False),
        ("sequential", 0, True),
        ("sequential", 3, True),
    ],
)
def test_the_background_has_a_prototype_where_it_is_nothing_else(setting: str, step: int, counted: bool) -> None:
    labels = torch.tensor([[0, 2], [255, 3]])
    for released in (True, False):
        assert (0 in visible_classes(labels, setting, step, released_background=released)) == counted
    without = torch.tensor([[2, 3]])
    assert visible_classes(without, setting, step, released_background=False) == [2, 3]
    assert visible_classes(without, setting, step) == ([2, 3] if counted else [3])


def test_the_base_step_is_fine_tuning_that_counts() -> None:
    batch = batch_of((0, 1, 2, 3))
    network = small_network()
    context = step_context(BASE, network, setting="disjoint")
    terms = run(build("sdr", {"released_layout": False}), network, context, batch)
    reference = build("finetuning").losses(context, batch, small_network()(batch.images), None, batch.labels)
    assert list(terms) == ["classification"] and torch.equal(terms["classification"], reference["classification"])
    with torch.no_grad():
        features = small_network()(batch.images).body
    labels = labels_at(batch.labels, features)
    assert context.state["counts"].tolist() == [(labels == c).sum() for c in range(4)]
    for c in range(4):
        expected = features.permute(0, 2, 3, 1)[labels == c].mean(dim=0)
        torch.testing.assert_close(context.state["prototypes"][c], expected)


def test_an_increment_grows_the_prototypes_and_leaves_old_ones_alone() -> None:
    method, old_model = build("sdr"), small_network()
    first = step_context(BASE, old_model, setting="disjoint")
    run(method, old_model, first, batch_of((0, 1, 2, 3)))
    before = {key: value.clone() for key, value in first.state.items()}
    _, context = increment({})
    assert context.state["prototypes"].shape[0] == context.state["counts"].shape[0] == 6
    for key in before:
        assert torch.equal(context.state[key][:4], before[key])
    assert (context.state["counts"][4:] > 0).all() and context.state["prototypes"][4:].abs().sum() > 0


def test_prototypes_carry_no_gradient_and_the_present_batch_is_in_them() -> None:
    terms, context = increment({"released_layout": False})
    assert not context.state["prototypes"].requires_grad
    method = build("sdr", {"released_layout": False})
    run(method, context.network, context, batch_of((0, 4, 5), seed=2))
    assert (context.state["counts"][4:] > 0).all()
    assert set(terms) == TERMS | {"classification"}


@pytest.mark.parametrize("term", sorted(TERMS))
def test_a_weight_of_zero_leaves_its_term_out_and_nothing_else(term: str) -> None:
    whole, _ = increment({})
    without, _ = increment({f"{term}_weight": 0.0})
    assert set(without) == set(whole) - {term}
    for name, value in without.items():
        torch.testing.assert_close(value, whole[name])  # two losses computed together may differ in the last digit


@pytest.mark.parametrize(
    ("option", "changed"),
    [
        ({"released_layout": False}, {"matching", "attraction", "repulsion"}),
        ({"released_attraction": False}, {"attraction"}),
        ({"released_matching": False}, {"matching"}),
        ({"unbiased_classification": False}, {"classification"}),
        ({"unbiased_distillation": False}, {"distillation"}),
        ({"matching_by_pixel": True}, {"matching"}),
        ({"unit_features": True}, {"attraction", "repulsion"}),
        ({"cluster_background": False}, {"attraction", "repulsion"}),
        ({"repulsion_form": "orthogonal"}, {"repulsion"}),
        ({"sparsity_form": "entropy", "sparsity_normalisation": "l1"}, {"sparsity"}),
    ],
)
def test_an_option_changes_its_terms_only(option: dict[str, Any], changed: set[str]) -> None:
    whole, other = increment({})[0], increment(option)[0]
    assert {name for name in whole if not torch.allclose(whole[name], other[name], rtol=1e-6)} == changed


def test_kept_labels_take_the_place_of_predictions_in_the_sequential_setting() -> None:
    terms, _ = increment({}, setting="sequential", labels=(0, 1, 4))
    assert terms["matching"] > 0
    hidden, _ = increment({}, setting="sequential", labels=(0, 4, 5))  # no old class is labelled
    assert hidden["matching"] == 0


def test_every_term_trains_the_network() -> None:
    terms, context = increment({"sparsity_weight": 1.0})
    parameters = [p for p in context.network.backbone.parameters() if p.requires_grad]
    for name, term in terms.items():
        gradients = torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
        assert any(g is not None and bool(g.any()) for g in gradients), name


def test_processes_add_up_what_they_count() -> None:
    """Two equal processes: twice the counts, the same means."""
    network, batch = small_network(), batch_of((0, 1, 2, 3))
    alone = step_context(BASE, network, setting="disjoint")
    both = step_context(BASE, network, setting="disjoint", reduce=lambda tensor, how: 2 * tensor)
    for context in (alone, both):
        build("sdr").update_prototypes(context, network(batch.images).body.detach(), batch.labels[:, ::16, ::16])
    assert torch.equal(both.state["counts"], 2 * alone.state["counts"])
    torch.testing.assert_close(both.state["prototypes"], alone.state["prototypes"])


def test_background_initialisation_is_a_switch() -> None:
    for initialised in (False, True):
        network = small_network()
        before = network.cls[0].bias.clone()
        build("sdr", {"background_initialisation": initialised}).grow(network, INCREMENT)
        assert torch.equal(network.cls[0].bias, before) != initialised
