import os
import signal
from functools import partial

import pytest
import torch

from model.methods.base import ParameterGroup, Trainable
from model.scenario import Step
from model.training.interruption import Interrupted
from model.training.optimiser import OptimiserError
from model.training.resume import ResumeKey, Snapshots
from model.training.seeds import seed_everything
from model.training.step import frozen_copy, train_step

STEP = Step(1, (1,), (2,))


def make(small, method, *, iterations=8, reporter=None, network=None, **options):
    """One step of a small network with dropout, so that the random generators matter."""
    if network is None:
        seed_everything(3)
        network = small.Network([1, 1], dropout=0.3)
    notes = reporter or small.Notes()

    def batches(start):
        torch.rand(3)  # loaders draw from the global generator when they start
        return small.stream(start=start)

    result = train_step(
        network=network,
        method=method,
        step=STEP,
        setting="overlapped",
        batches=batches,
        one_pass=lambda: [next(small.stream(size=2)), next(small.stream(size=3))],
        learning_rate=0.1,
        iterations=iterations,
        iterations_per_epoch=3,
        device=small.cpu,
        reporter=notes,
        **{
            "old_model": None,
            "make_optimiser": small.sgd,
            "schedule": small.poly(iterations),
            "state": {},
            "seed": 11,
            **options,
        },
    )
    return network, result, notes


def flat(network):
    return torch.cat([value.flatten().double() for value in network.state_dict().values()])


def test_hooks_around_the_loop_come_in_order_and_carry_the_state(small):
    method = small.Method()
    _, result, _ = make(small, method, iterations=2, state={"from_before": 7})
    assert method.names == [
        "trainable",
        "before_step",
        *["forward", "targets", "losses", "after_backward", "after_update"] * 2,
        "after_step",
    ]
    assert dict(method.calls)["before_step"] == [2, 3]  # the pass over the data
    assert result.state == {"count": torch.tensor(2.0), "from_before": 7, "done": True}
    assert result.trainable_parameters == sum(p.numel() for p in small.Network([1, 1]).parameters())


def test_the_network_trains_in_training_mode_whatever_a_hook_left(small):
    class Careless(small.Method):
        def before_step(self, context):
            context.network.eval()
            return super().before_step(context)

    method = Careless()
    make(small, method)
    assert {value for name, value in method.calls if name == "losses"} == {True}
    assert dict(method.calls)["after_step"] is False


def test_equal_seeds_give_equal_weights_and_other_seeds_do_not(small):
    first, _, one = make(small, small.Method())
    second, _, two = make(small, small.Method())
    other, _, _ = make(small, small.Method(), seed=12)
    assert torch.equal(flat(first), flat(second)) and one.seen == two.seen
    assert not torch.equal(flat(first), flat(other))  # dropout drops other values


def test_what_a_hook_draws_does_not_move_the_training(small):
    class Drawing(small.Method):
        def before_step(self, context):
            torch.rand(100)
            return super().before_step(context)

    first, _, _ = make(small, small.Method())
    second, _, _ = make(small, Drawing())
    assert torch.equal(flat(first), flat(second))


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_an_interrupted_step_ends_as_if_it_had_run_in_one_go(small, tmp_path, optimiser, precision):
    class Loud(small.Method):
        def losses(self, context, batch, outputs, old_outputs, targets):
            terms = super().losses(context, batch, outputs, old_outputs, targets)
            return {name: 1000 * value for name, value in terms.items()}  # fp16 has to find a smaller loss scale first

    options = {"make_optimiser": getattr(small, optimiser), "precision": precision, "accumulate": 2, "clip_norm": 1.0}
    whole, expected, notes = make(small, Loud(), **options)
    assert (expected.state["count"] < 8) == (precision == "fp16")

    class Stopping(small.Notes):
        def iteration(self, iteration, learning_rate, terms):
            super().iteration(iteration, learning_rate, terms)
            if iteration == 5:
                os.kill(os.getpid(), signal.SIGTERM)

    kept = partial(Snapshots, tmp_path, ResumeKey({}))
    with pytest.raises(Interrupted, match="SIGTERM after iteration 5 of 8; run it again") as stop:
        make(small, Loud(), reporter=Stopping(), snapshots=kept(), **options)
    assert stop.value.signal_number == signal.SIGTERM

    seed_everything(99)  # the second process starts with other weights and another generator
    method, reporter = Loud(), small.Notes()
    network = small.Network([1, 1], dropout=0.3)
    network, result, _ = make(small, method, network=network, reporter=reporter, snapshots=kept(), **options)
    assert result.resumed_at == 5
    assert "before_step" not in method.names
    assert torch.equal(flat(network), flat(whole))
    assert reporter.seen == notes.seen
    assert result.state == expected.state


def test_without_snapshots_a_signal_still_stops(small):
    class Stopping(small.Notes):
        def iteration(self, iteration, learning_rate, terms):
            os.kill(os.getpid(), signal.SIGUSR1)

    with pytest.raises(Interrupted, match="SIGUSR1 after iteration 1 of 8; this state was not kept"):
        make(small, small.Method(), reporter=Stopping())


def test_the_old_model_is_an_independent_frozen_copy(small):
    network = small.Network([1])
    old = frozen_copy(network)
    network.body.weight.data.add_(1)
    assert not torch.equal(old.body.weight, network.body.weight)
    assert not old.training and not any(p.requires_grad for p in old.parameters())
    assert network.training and all(p.requires_grad for p in network.parameters())


def test_a_bad_answer_to_what_trains_stops_before_training(small):
    class Twice(small.Method):
        def trainable(self, network, step):
            return Trainable((ParameterGroup(tuple(network.parameters())), ParameterGroup((network.body.weight,))))

    with pytest.raises(OptimiserError, match=r"'body\.weight' is in two groups"):
        make(small, Twice())
