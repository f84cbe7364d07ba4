"""Every method of the registry: what it freezes stays as it is, its network and state survive being saved and loaded, a stopped
step ends as if it had not been stopped, and half precision does no harm.

The jobs are those of the configuration that has all methods, on a few small images and for a few iterations.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from method_jobs import RUNS, Workshop

from model.methods import registry as methods
from model.networks import registry as networks
from model.training.checkpoint import load_checkpoint, load_network, save_checkpoint
from model.training.interruption import Interrupted

STOP_AFTER = 2


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("workshop"))


def same(a: Any, b: Any) -> bool:
    """Equality of nested plain values and tensors, bit for bit; NaN equals NaN."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a.nan_to_num(), b.nan_to_num())
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


@pytest.mark.parametrize(("task", "method"), RUNS)
def test_a_stopped_step_ends_as_if_it_had_run_in_one_go(
    workshop: Workshop, tmp_path: Path, task: str, method: str
) -> None:
    second = RUNS[task, method].trainings[2]
    whole = workshop.train(second)
    with pytest.raises(Interrupted):
        workshop.train(second, STOP_AFTER, tmp_path)
    resumed = workshop.train(second, snapshots=tmp_path)
    assert resumed.facts["resumed_at"] == STOP_AFTER
    assert same(resumed.checkpoint.network, whole.checkpoint.network)
    assert same(resumed.checkpoint.method_state, whole.checkpoint.method_state)


@pytest.mark.parametrize(("task", "method"), RUNS)
def test_three_grown_steps(workshop: Workshop, task: str, method: str) -> None:
    """Every checkpoint tells how to build the network that it fills, which knows all classes so far and answers no other one."""
    for training in RUNS[task, method].trainings:
        file, step, recipe = workshop.checkpoint(training), training.split.step, training.spec["recipe"]
        checkpoint = load_checkpoint(file)
        assert (checkpoint.step, checkpoint.classes) == (step.index, step.seen)
        arguments = dict(checkpoint.network_arguments)
        network = networks.build(arguments.pop("name"), checkpoint.classes_per_step, arguments).eval()
        load_network(network, checkpoint.network, file)
        assert all(torch.isfinite(value).all() for value in checkpoint.network.values() if value.is_floating_point())
        if recipe["family"] == "per-pixel":
            rule = methods.build(**training.spec["method"])
            with torch.no_grad():
                answered = rule.predict(network(torch.randn(2, 3, 48, 48)), step)
            assert answered.shape == (2, 48, 48) and answered.min() >= 0 and answered.max() <= len(step.seen)


@pytest.mark.parametrize(("task", "method"), RUNS)
def test_the_state_of_a_method_is_read_back_as_it_was_written(
    workshop: Workshop, tmp_path: Path, task: str, method: str
) -> None:
    first = RUNS[task, method].trainings[1]
    outcome = workshop.train(first)
    save_checkpoint(tmp_path / "checkpoint.pt", outcome.checkpoint)
    assert same(load_checkpoint(tmp_path / "checkpoint.pt").method_state, outcome.checkpoint.method_state)


@pytest.mark.parametrize(("task", "method"), RUNS)
def test_a_step_in_half_precision_stays_finite(workshop: Workshop, task: str, method: str) -> None:
    """The loop refuses losses and gradients that are not finite; what comes out of it is looked at here."""
    first = RUNS[task, method].trainings[1]
    outcome = workshop.train(
        replace(first, spec={**first.spec, "recipe": {**first.spec["recipe"], "precision": "bf16"}})
    )
    values = [value for value in outcome.checkpoint.network.values() if value.is_floating_point()]
    assert values and all(torch.isfinite(value).all() for value in values)


def test_methods_keep_something(workshop: Workshop) -> None:
    """Otherwise the tests of states would compare nothing; what each method keeps is tested with it."""
    runs = {key: workshop.checkpoint(run.trainings[1]) for key, run in RUNS.items()}
    assert sum(bool(load_checkpoint(file).method_state) for file in runs.values()) > 1
