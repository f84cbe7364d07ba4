"""A method that uses every hook goes through training, planning and costs like any other."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from every_hook import EveryHook
from trainings import train

from model.config.messages import ConfigError
from model.config.reading import parse_config
from model.data.loading.pixel_batch import PixelBatch
from model.methods import registry
from model.methods.base import Method
from model.networks.deeplabv3.network import DeepLabV3
from model.scenario import Step
from model.training.job import tensor_bytes
from model.training.step import StepResult, frozen_copy
from model.workflow.plan import Plan

SUPPORT = Path(__file__).parents[2] / "support"
BASE, INCREMENT = Step(0, (), (7,)), Step(1, (7,), (9,))
ITERATIONS, PER_EPOCH = 5, 2


def run(
    method: Method, network: DeepLabV3, step: Step, stream: Any, state: dict[str, Any], **options: Any
) -> StepResult:
    def one_pass() -> list[PixelBatch]:
        batches = stream(2)
        return [next(batches) for _ in range(PER_EPOCH)]

    return train(
        network,
        method,
        step,
        lambda start: stream(2, start=start),
        one_pass=one_pass,
        iterations=ITERATIONS,
        iterations_per_epoch=PER_EPOCH,
        state=state,
        **options,
    ).result


@pytest.fixture
def network() -> DeepLabV3:
    torch.manual_seed(0)
    return DeepLabV3((1,), backbone="tiny", channels=8, rates=(1, 2, 3))


def test_it_defines_every_hook() -> None:
    hooks = {name for name, value in vars(Method).items() if callable(value) and not name.startswith("_")}
    assert len(hooks) == 11 and hooks <= set(vars(EveryHook))


def test_every_hook_leaves_what_the_next_one_reads(network, pixel_stream) -> None:
    method = EveryHook(newest=1.0)  # the average is then the weight at the end of the last epoch
    base = run(method, network, BASE, pixel_stream, {})
    old = frozen_copy(network)
    method.grow(network, INCREMENT)
    result = run(method, network, INCREMENT, pixel_stream, base.state, old_model=old)

    state = result.state
    assert state["seen"]["updates"] == ITERATIONS and state["seen"]["norm"] > 0
    assert [len(counts) for counts in state["history"]] == [2, 3]
    assert torch.equal(network.cls[-1].weight, state["average"]["weight"])
    assert tensor_bytes(state) == sum(
        tensor.numel() * tensor.element_size()
        for tensor in (*state["history"], state["seen"]["norm"], *state["average"].values())
    )


def test_old_outputs_reach_the_forward_pass(network, pixel_stream) -> None:
    weights = []
    for mixing in (0.0, 0.5):
        copied = copy.deepcopy(network)
        old = frozen_copy(copied)
        EveryHook().grow(copied, INCREMENT)
        run(EveryHook(mixing=mixing), copied, INCREMENT, pixel_stream, {}, old_model=old)
        weights.append(copied.backbone.state_dict()[next(iter(copied.backbone.state_dict()))])
    assert not torch.equal(*weights)


def test_what_it_counts_is_reduced_over_processes(network, pixel_stream) -> None:
    """As if a second process had seen the same batches."""
    alone = run(EveryHook(), copy.deepcopy(network), BASE, pixel_stream, {})
    asked: list[str] = []

    def two(tensor: torch.Tensor, reduction: str) -> torch.Tensor:
        asked.append(reduction)
        return 2 * tensor if reduction == "sum" else tensor

    both = run(EveryHook(), copy.deepcopy(network), BASE, pixel_stream, {}, reduce=two)
    assert torch.equal(both.state["history"][0], 2 * alone.state["history"][0])
    assert asked == ["sum", *["mean"] * ITERATIONS]


def plan(hyper_parameters: dict[str, Any], setting: str = "overlapped") -> Plan:
    content = {
        "schema_version": 1,
        "datasets": {"toy": {"kind": "shapes", "stuff": 3, "things": 3}},
        "recipes": {
            "small": {
                "family": "per-pixel",
                "network": {"name": "deeplabv3", "backbone": "tiny"},
                "optimiser": {"name": "sgd", "learning_rate": 0.1},
                "base": {"iterations": 4},
                "increment": {"iterations": 2},
                "batch_size": 2,
                "transform": {"name": "full-image"},
            }
        },
        "experiments": [
            {
                "dataset": "toy",
                "scenarios": ["2-2"],
                "settings": [setting],
                "recipe": "small",
                "methods": ["finetuning", {"name": "every-hook", "hyper_parameters": hyper_parameters}],
            }
        ],
    }
    return Plan(parse_config(content))


@pytest.fixture
def registered(monkeypatch) -> None:
    monkeypatch.setitem(registry.METHODS["per-pixel"], "every-hook", "every_hook:EveryHook")


def specs(jobs: dict[str, Any]) -> dict[str, Any]:
    return {directory: job.spec for directory, job in jobs.items()}


def test_a_hyper_parameter_changes_its_own_trainings_and_one_of_the_decision_rule_none(registered) -> None:
    first, trained, decided = plan({}), plan({"mixing": 0.2}), plan({"shift": 1.0})
    assert specs(first.trainings) == specs(decided.trainings)
    assert specs(first.evaluations) != specs(decided.evaluations)
    changed = {d for d, spec in specs(trained.trainings).items() if specs(first.trainings).get(d) != spec}
    assert changed and all("finetuning" not in directory for directory in changed)


def test_what_it_cannot_work_on_is_refused_while_planning(registered) -> None:
    with pytest.raises(
        ConfigError, match=r"methods\[1\]: 'every-hook' with recipe 'small': the method labels past classes"
    ):
        plan({}, "sequential")
