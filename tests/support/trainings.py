"""A step of training as the workflow runs it, for tests of methods: the real loop with a plain optimiser and a constant rate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

from model.methods.base import Method, State
from model.scenario import Step
from model.training.optimiser import build_optimiser
from model.training.step import StepResult, train_step


@dataclass
class Terms:
    """A reporter that keeps the loss terms of every iteration."""

    terms: list[dict[str, float]] = field(default_factory=list)

    def iteration(self, iteration: int, learning_rate: float, terms: Mapping[str, float]) -> None:
        self.terms.append(dict(terms))

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


@dataclass(frozen=True)
class Training:
    """What a step of training left.

    Attributes:
        result: of :func:`model.training.step.train_step`.
        terms: loss terms of every iteration.
    """

    result: StepResult
    terms: list[dict[str, float]]

    @property
    def state(self) -> State:
        return self.result.state


def train(
    network: nn.Module,
    method: Method[Any, Any],
    step: Step,
    batches: Callable[[int], Iterator[Any]],
    *,
    one_pass: Callable[[], Iterable[Any]] = tuple,
    optimiser: str = "sgd",
    learning_rate: float = 0.01,
    weight_decay: float = 0.0,
    iterations: int = 3,
    **options: Any,
) -> Training:
    """Train a network, already grown, through one step on the CPU.

    Args:
        network: changed in place.
        method: whose hooks are called.
        step: classes learnt before and now.
        batches: the endless stream of batches, from a given number on.
        one_pass: the pass over the data of ``before_step`` and ``after_step``; nothing by default.
        optimiser: ``sgd`` or ``adamw``.
        learning_rate: constant.
        weight_decay: of the optimiser.
        iterations: also the length of an epoch, unless ``iterations_per_epoch`` is given.
        options: further arguments of :func:`model.training.step.train_step`.
    """
    reporter = Terms()
    defaults = {
        "old_model": None,
        "setting": "overlapped",
        "state": {},
        "seed": 1,
        "iterations_per_epoch": iterations,
    }
    result = train_step(
        network=network,
        method=method,
        step=step,
        batches=batches,
        one_pass=one_pass,
        make_optimiser=partial(build_optimiser, optimiser, learning_rate=learning_rate, weight_decay=weight_decay),
        schedule=lambda iteration: 1.0,
        learning_rate=learning_rate,
        iterations=iterations,
        device=torch.device("cpu"),
        reporter=reporter,
        **{**defaults, **options},
    )
    return Training(result, reporter.terms)
