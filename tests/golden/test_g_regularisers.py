"""EWC, PI and RW over two steps: statistics, what is handed on, and the gradient that the penalty adds.

The recorded parameters and gradients drive the methods' own hooks; the network is only a holder of parameters.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from contexts import step_context
from golden import Case, Recording, assert_close, cases, load
from torch import nn

from model.methods.base import State
from model.methods.pixel.importance import penalty
from model.methods.registry import build
from model.scenario import Step

GROUP = "g_regularisers"
RUNNING = {"ewc": "fisher", "pi": "delta", "rw": "score"}
HANDED_ON = {"ewc": {"fisher": "fisher"}, "pi": {"score": "path"}, "rw": {"fisher": "fisher", "score": "walk"}}
STEPS = (Step(0, (), (1, 2)), Step(1, (1, 2), (3, 4)))


class Holder(nn.Module):
    """The recorded parameters under their names."""

    def __init__(self, recording: Recording, prefix: str, dtype: torch.dtype) -> None:
        super().__init__()
        for key in sorted(key for key in recording.arrays if key.startswith(prefix)):
            *path, leaf = key.removeprefix(prefix).split(".")
            module: nn.Module = self
            for part in path:
                if part not in module._modules:
                    module.add_module(part, nn.Module())
                module = module.get_submodule(part)
            module.register_parameter(leaf, nn.Parameter(recording.tensor(key, dtype)))

    def take(self, recording: Recording, where: str, gradients: bool) -> None:
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                parameter.copy_(recording.tensor(f"{where}{name}"))
                if gradients:
                    parameter.grad = recording.tensor(f"{where.replace('param', 'grad')}{name}", parameter.dtype)


def methods(config: dict[str, Any]) -> tuple[Any, Any]:
    """The method, and what its base step is trained by, with the recorded settings."""
    own: dict[str, Any] = {"importance_weight": 1.0, "normalise": config["normalize"]}
    shared: dict[str, Any] = {}
    if config["kind"] != "pi":
        shared["newest_weight"] = config["alpha"]
    if config["kind"] == "rw":
        shared["interval"] = config["iterations"]
    method = build(config["kind"], own | shared)
    assert set(shared) == set(method.base_fields or ())
    return method, build(method.base_method, shared)


def run(recording: Recording, dtype: torch.dtype) -> list[tuple[str, Any, np.ndarray]]:
    """Name, our value and the recorded one of everything that the case recorded."""
    kind, found = recording.config["kind"], []
    method, base = methods(recording.config)
    state: State = {}
    for number, (step, active) in enumerate(zip(STEPS, (base, method), strict=True)):
        network = Holder(recording, f"task{number}.it0.param.", dtype)
        context = step_context(step, network, state=state)
        context = replace(context, state=active.before_step(context))
        state = context.state
        iterations = len({key.split(".")[1] for key in recording.arrays if key.startswith(f"task{number}.it")})
        for i in range(iterations):
            where = f"task{number}.it{i}."
            network.take(recording, f"{where}param.", gradients=True)
            given = {name: p.grad.clone() for name, p in network.named_parameters()}
            active.after_backward(context)
            added = {name: p.grad - given[name] for name, p in network.named_parameters()}
            found.append((f"{where}penalty", penalty(network, state), recording.arrays[f"{where}penalty"]))
            for name in given:
                for key, entry in {f"{where}running.{name}": RUNNING[kind], f"{where}fisher.{name}": "fisher"}.items():
                    if key in recording.arrays:
                        found.append((key, state[f"{entry}/{name}"].clone(), recording.arrays[key]))
                if f"{where}penalty_grad.{name}" in recording.arrays:
                    # the difference of two sums; what it lost is far below the tolerance of gradients of this size
                    key = f"{where}penalty_grad.{name}"
                    found.append((key, added[name], recording.arrays[key]))
        network.take(recording, f"task{number}.final_param.", gradients=False)
        state = active.after_step(context)
        for recorded, entry in HANDED_ON[kind].items():
            for name, _ in network.named_parameters():
                key = f"task{number}.state.{recorded}.{name}"
                found.append((key, state[f"{entry}/{name}"], recording.arrays[key]))
    return found


@pytest.mark.parametrize("case", cases(GROUP))
def test_statistics_and_penalty_over_two_steps(case: Case) -> None:
    recording = load(case)
    compared = run(recording, torch.float64)
    told = {"param", "grad", "final_param"}
    results = {key for key in recording.arrays if not told & set(key.split(".")[1:3])}
    assert {name for name, _, _ in compared} == results
    for name, ours, recorded in compared:
        assert_close(ours, recorded, GROUP, "float64", name)
