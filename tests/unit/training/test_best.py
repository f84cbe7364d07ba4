"""The best network of a step: what is scored when, what is kept, and that an interruption changes nothing."""

from __future__ import annotations

import os
import signal
from functools import partial

import pytest
import torch
from torch import nn

from model.scenario import Step
from model.training.best import BestNetwork
from model.training.interruption import Interrupted
from model.training.resume import ResumeKey, Snapshots
from model.training.seeds import seed_everything
from model.training.step import train_step

CPU = torch.device("cpu")


def scores(*values: float | None):
    left = iter(values)
    return lambda network: next(left)


@pytest.mark.parametrize(
    ("values", "kept"),
    [((1.0, 3.0, 2.0), 2), ((3.0, 3.0, 1.0), 1), ((None, 0.0, None), 2), ((None, None, None), 1)],
    ids=["middle", "first of equals", "nothing to score", "never anything"],
)
def test_the_best_is_kept_and_an_equal_one_does_not_replace_it(values, kept):
    network, best = nn.Linear(1, 1), BestNetwork(scores(*values), 1)
    for done in (1, 2, 3):
        nn.init.constant_(network.weight, done)
        best.consider(network, done, CPU)
    best.restore(network)
    assert network.weight.item() == kept == best.iteration


def test_scoring_is_due_every_so_often_and_at_the_end_but_never_twice():
    best = BestNetwork(scores(1.0), 4)
    assert [done for done in range(11) if best.due(done, 10)] == [4, 8, 10]
    best.consider(nn.Linear(1, 1), 4, CPU)
    assert not best.due(4, 10)


def make(small, *, reporter=None, snapshots=None, seed=3):
    """A step of 8 iterations that is scored after every third; dropout makes the random generators matter."""
    seed_everything(seed)
    network = small.Network([1, 1], dropout=0.3)
    seen = []

    def score(network):
        assert not network.training
        torch.rand(5)  # an evaluation may draw
        seen.append(network.body.weight.sum().item())
        return -abs(seen[-1] - TARGET)

    best = BestNetwork(score, 3)
    result = train_step(
        network=network,
        old_model=None,
        method=small.Method(),
        step=Step(1, (1,), (2,)),
        setting="overlapped",
        batches=lambda start: small.stream(start=start),
        one_pass=tuple,
        make_optimiser=small.sgd,
        schedule=small.poly(8),
        learning_rate=0.1,
        iterations=8,
        iterations_per_epoch=3,
        device=CPU,
        state={},
        seed=11,
        reporter=reporter or small.Notes(),
        snapshots=snapshots,
        best=best,
    )
    return network, result, best, seen


TARGET = 1e9  # the largest sum of weights wins


def test_the_step_ends_with_the_best_network_and_trains_as_without(small):
    network, _, best, seen = make(small)
    assert len(seen) == 3 and best.iteration == (3, 6, 8)[max(range(3), key=seen.__getitem__)]
    assert network.body.weight.sum().item() == max(seen)


@pytest.mark.parametrize("stop", [5, 6])
def test_an_interrupted_step_keeps_the_same_network(small, tmp_path, stop):
    whole, expected, best, _ = make(small)

    class Stopping(small.Notes):
        def iteration(self, iteration, learning_rate, terms):
            super().iteration(iteration, learning_rate, terms)
            if iteration == stop:
                os.kill(os.getpid(), signal.SIGTERM)

    kept = partial(Snapshots, tmp_path, ResumeKey({}))
    with pytest.raises(Interrupted, match=f"after iteration {stop} of 8; run it again"):
        make(small, reporter=Stopping(), snapshots=kept())
    network, result, again, _ = make(small, snapshots=kept(), seed=99)
    assert result.resumed_at == stop
    assert again.facts == best.facts
    assert all(
        torch.equal(a, b) for a, b in zip(network.state_dict().values(), whole.state_dict().values(), strict=True)
    )
    assert result.state == expected.state
