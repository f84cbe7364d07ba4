"""One step of a scenario from the grown network to the trained one, around the loop: hooks, optimiser, snapshots."""

from __future__ import annotations

import copy
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from model.methods.base import Method, ParameterGroup, Reduce, Reduction, State, StepContext
from model.scenario import Step
from model.training.best import BestNetwork
from model.training.interruption import Interrupted, stop_requests, stop_signals_blocked
from model.training.loop import Reporter, gradient_scaler, set_training_mode, train
from model.training.optimiser import freeze_untrained, optimised_parameters
from model.training.passes import Precision
from model.training.processes import Processes
from model.training.random_states import random_states, set_random_states
from model.training.resume import Snapshots
from model.training.schedule import Schedule
from model.training.seeds import seed_everything
from model.training.split_pass import SplitPass
from model.training.trees import tensors_of
from model.training.whole_batch_layers import refuse_batch_statistics, whole_batch_layers


class ResumableReporter(Reporter, Protocol):
    """A reporter whose curves survive an interruption."""

    def state_dict(self) -> dict[str, Any]:
        """Plain values to continue from."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken."""


@dataclass(frozen=True)
class StepResult:
    """What a trained step leaves besides the network itself.

    Attributes:
        state: the method's state for the next step.
        trainable_parameters: number of scalars that were trained.
        resumed_at: iterations that a snapshot had already done; 0 if the step ran without interruption.
    """

    state: State
    trainable_parameters: int
    resumed_at: int


def frozen_copy(network: nn.Module) -> nn.Module:
    """The old model: an independent copy in evaluation mode to which no gradient flows."""
    return copy.deepcopy(network).eval().requires_grad_(False)


def unchanged(tensor: Tensor, reduction: Reduction) -> Tensor:
    """The tensor itself: hooks see whole batches, in which nothing of other processes is missing."""
    return tensor


def train_step(
    *,
    network: nn.Module,
    old_model: nn.Module | None,
    method: Method[Any, Any],
    step: Step,
    setting: str,
    batches: Callable[[int], Iterator[Any]],
    one_pass: Callable[[], Iterable[Any]],
    make_optimiser: Callable[[Sequence[ParameterGroup]], torch.optim.Optimizer],
    schedule: Schedule,
    learning_rate: float,
    iterations: int,
    iterations_per_epoch: int,
    device: torch.device,
    state: State,
    seed: int,
    reporter: ResumableReporter,
    accumulate: int = 1,
    clip_norm: float | None = None,
    precision: Precision = "fp32",
    snapshots: Snapshots | None = None,
    best: BestNetwork | None = None,
    reduce: Reduce = unchanged,
    processes: Processes | None = None,
    micro_batch: int | None = None,
) -> StepResult:
    """Train a network, already grown, through one step.

    Args:
        network: changed in place; on ``device``.
        old_model: of :func:`frozen_copy`, on ``device``; None at the base step or if the method asks for none.
        method: whose hooks are called, from ``trainable`` to ``after_step``.
        step: classes learnt before and now.
        setting: of the scenario.
        batches: the endless stream of batches, from a number of batches already used on.
        one_pass: one fresh pass over this step's images, for the hooks before and after training.
        make_optimiser: parameter groups to optimiser.
        schedule: factor of the learning rates for an iteration.
        learning_rate: that the schedule starts from; passed to the method.
        iterations: optimiser steps of this step.
        iterations_per_epoch: optimiser steps that one pass over the data takes.
        device: where tensors live.
        state: the method's state from the step before.
        seed: of the draws that training itself makes, such as dropout.
        reporter: called after every iteration.
        accumulate, clip_norm, precision: see :func:`model.training.loop.train`.
        snapshots: where to continue from and to save to; None does neither.
        best: chooses the network that the step ends with, before ``after_step``; None ends with the last one. The method's state
            is that of the last iteration either way.
        reduce: combines what the method counts over the processes of this training.
        processes: that train this network together; every batch is this process's share then. None: this one alone.
        micro_batch: images of one forward pass at most; None: all that there are.

    Raises:
        OptimiserError: for parameter groups that make no optimiser.
        SplitError: if the batch cannot be divided without changing the result.
        TrainingError: if training cannot continue.
        Interrupted: after SIGTERM, SIGUSR1 or SIGINT, when the snapshot is written.
    """
    trainable = method.trainable(network, step)
    count = freeze_untrained(network, trainable.groups)
    optimiser = make_optimiser(trainable.groups)
    scaler = gradient_scaler(precision, device)
    if micro_batch is not None:
        refuse_batch_statistics(network, trainable.evaluation_modules, micro_batch)
    found = snapshots.load() if snapshots is not None else None
    if processes is not None:
        found = processes.from_first(found)
    context: StepContext[Any] = StepContext(
        step=step,
        setting=setting,
        iteration=0 if found is None else found[0],
        iterations=iterations,
        iterations_per_epoch=iterations_per_epoch,
        network=network,
        old_model=old_model,
        state=state,
        device=device,
        reduce=reduce,
        batches=one_pass,
        learning_rate=learning_rate,
    )
    start = context.iteration
    if found is None:
        seed_everything(seed)
        network.eval()
        context = replace(context, state=method.before_step(context))
        if processes is not None:  # the same but for rounding, which differs between GPUs
            processes.like_first([*tensors_of(network.state_dict()), *tensors_of(context.state)])
    else:
        context = replace(context, state=_restore(found[1], network, optimiser, scaler, reporter, device))
        if best is not None:
            best.load_state_dict(found[1]["best"])
    with stop_signals_blocked():
        stream = batches(start * accumulate)
    # Making the stream may draw from the generators. They are set after it, so that an interrupted run draws what a whole
    # one does.
    if found is None:
        seed_everything(seed)
    else:
        set_random_states(found[1]["random"], device)

    with stop_requests() as stops, ExitStack() as changes:
        passing: dict[str, Any] = {}
        if processes is not None or micro_batch is not None:
            split = SplitPass(optimised_parameters(optimiser), processes, micro_batch)
            changes.enter_context(whole_batch_layers(network, split))
            passing["batch_pass"] = split
            if processes is not None:
                passing["add_gradients"] = processes.add_gradients

        def consider(done: int) -> None:
            if best is not None and best.due(done, iterations):
                best.consider(network, done, device)
                set_training_mode(network, trainable.evaluation_modules)

        def keep(done: int, settle: Callable[[], object]) -> None:
            saved = False
            stop = stops[0] if stops else 0
            due = int(snapshots is not None and snapshots.due and done < iterations)
            if processes is not None:
                stop, due = processes.largest([stop, due])
            if not stop:  # else when training continues: who asks for a stop may not wait for an evaluation
                consider(done)
            if snapshots is not None and (stop or due):
                settle()
                content = _content(network, optimiser, scaler, reporter, context.state, device)
                if best is not None:
                    content["best"] = best.state_dict()
                saved = snapshots.save(done, content)
            if stop:
                if processes is not None:
                    processes.wait()  # for what is being written
                what = f"stopped by {signal.Signals(stop).name} after iteration {done} of {iterations}"
                again = "run it again to continue from there" if saved else "this state was not kept"
                raise Interrupted(f"{what}; {again}", stop)

        consider(start)
        train(
            context,
            method=method,
            batches=stream,
            optimiser=optimiser,
            schedule=schedule,
            reporter=reporter,
            scaler=scaler,
            accumulate=accumulate,
            clip_norm=clip_norm,
            precision=precision,
            evaluation_modules=trainable.evaluation_modules,
            after_iteration=keep,
            **passing,
        )
    if best is not None:
        best.restore(network)
    network.eval()
    state = method.after_step(replace(context, iteration=iterations))
    return StepResult(state, count, start)


def _content(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    reporter: ResumableReporter,
    state: State,
    device: torch.device,
) -> dict[str, Any]:
    return {
        "network": network.state_dict(),
        "optimiser": optimiser.state_dict(),
        "scaler": scaler.state_dict(),
        "reporter": reporter.state_dict(),
        "method_state": state,
        "random": random_states(device),
    }


def _restore(
    content: dict[str, Any],
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    reporter: ResumableReporter,
    device: torch.device,
) -> State:
    network.load_state_dict(content["network"])
    optimiser.load_state_dict(content["optimiser"])
    scaler.load_state_dict(content["scaler"])
    reporter.load_state_dict(content["reporter"])
    state: State = to_device(content["method_state"], device)
    return state


def to_device(value: Any, device: torch.device) -> Any:
    """The same nested value with its tensors on a device; used for the state of a method."""
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {key: to_device(item, device) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(to_device(item, device) for item in value)
    return value
