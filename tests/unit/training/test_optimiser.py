import pytest
import torch
from torch import nn

from model.methods.base import ParameterGroup
from model.training.optimiser import (
    OptimiserError,
    build_optimiser,
    freeze_untrained,
    optimised_parameters,
    set_learning_rates,
)


@pytest.fixture
def network():
    return nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4), nn.Linear(4, 5))


def group(module, **options):
    return ParameterGroup(tuple(module.parameters()), **options)


def test_groups_get_their_own_rate_and_decay(network):
    groups = (group(network[0], learning_rate_factor=0.1, weight_decay=0.0), group(network[1]))
    optimiser = build_optimiser("sgd", groups, learning_rate=0.5, weight_decay=1e-4)
    first, second = optimiser.param_groups
    assert (first["lr"], first["weight_decay"]) == (0.05, 0.0)
    assert (second["lr"], second["weight_decay"]) == (0.5, 1e-4)
    assert first["momentum"] == 0.9 and first["nesterov"]
    assert optimised_parameters(optimiser) == [*network[0].parameters(), *network[1].parameters()]


def test_rates_follow_the_factor_of_each_group(network):
    groups = (group(network[0], learning_rate_factor=10.0), group(network[1]))
    optimiser = build_optimiser("adamw", groups, learning_rate=0.01, weight_decay=0.05)
    for factor in (1.0, 0.25, 0.5):
        set_learning_rates(optimiser, factor)
        assert [g["lr"] for g in optimiser.param_groups] == pytest.approx([0.1 * factor, 0.01 * factor])
    assert isinstance(optimiser, torch.optim.AdamW)


def test_the_minimum_is_a_rate_and_holds_for_each_group(network):
    """As released with SSUL: the slow background head, 1e-4 of the others, never trains below 1e-6."""
    groups = (group(network[0]), group(network[1], learning_rate_factor=1e-4))
    optimiser = build_optimiser("sgd", groups, learning_rate=0.01, weight_decay=0.0, minimum_rate=1e-6)
    rates = []
    for factor in (1.0, 0.5, 1e-5):
        set_learning_rates(optimiser, factor)
        rates.append([g["lr"] for g in optimiser.param_groups])
    assert rates == [pytest.approx([0.01, 1e-6]), pytest.approx([0.005, 1e-6]), pytest.approx([1e-6, 1e-6])]


def test_everything_outside_the_groups_is_frozen_and_everything_inside_is_not(network):
    network.requires_grad_(False)
    count = freeze_untrained(network, (group(network[1]), ParameterGroup(())))
    assert [p.requires_grad for p in network.parameters()] == [False, False, True, True, False, False]
    assert count == 3 * 4 + 4
    freeze_untrained(network, (group(network[0]),))
    assert [p.requires_grad for p in network.parameters()] == [True, True, False, False, False, False]


def test_a_parameter_in_two_groups_is_named(network):
    with pytest.raises(OptimiserError, match=r"'1\.weight' is in two groups"):
        freeze_untrained(network, (group(network), ParameterGroup((network[1].weight,))))


def test_a_foreign_parameter_is_refused(network):
    with pytest.raises(OptimiserError, match=r"shape \(7,\).*checkpoint"):
        freeze_untrained(network, (group(network), ParameterGroup((nn.Parameter(torch.zeros(7)),))))


def test_nothing_to_train_is_refused(network):
    with pytest.raises(OptimiserError, match="no parameter trains"):
        freeze_untrained(network, (ParameterGroup(()),))


def test_an_unknown_optimiser_is_refused(network):
    with pytest.raises(OptimiserError, match="'lion'"):
        build_optimiser("lion", (group(network),), learning_rate=1.0, weight_decay=0.0)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_updates_are_those_of_the_plain_formulation(name):
    plain, ours = nn.Linear(30, 20).double(), nn.Linear(30, 20).double()
    ours.load_state_dict(plain.state_dict())
    if name == "sgd":
        reference = torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-2)
    else:
        reference = torch.optim.AdamW(plain.parameters(), lr=0.1, weight_decay=1e-2)
    optimiser = build_optimiser(name, (group(ours),), learning_rate=0.1, weight_decay=1e-2)
    for _ in range(5):
        x = torch.randn(8, 30, dtype=torch.float64)
        for network, updater in ((plain, reference), (ours, optimiser)):
            updater.zero_grad()
            network(x).pow(3).sum().backward()
            updater.step()
    assert torch.allclose(plain.weight, ours.weight, rtol=1e-9, atol=1e-12)
