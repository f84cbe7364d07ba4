"""One training job, from its description and files to a checkpoint: the place where names become objects.

Networks and methods are resolved from text at run time, so that this module's imports are what *every* training runs
through, and nothing else.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from model.common.process_numbers import check_shares
from model.common.provenance import checksum
from model.data.prepared.dataset import PreparedDataset
from model.methods.base import Method, State
from model.scenario import Scenario
from model.training.best import BestNetwork
from model.training.checkpoint import Checkpoint, load_checkpoint, load_network, verify_checkpoint
from model.training.inputs import StepImages, read_step_images
from model.training.optimiser import build_optimiser
from model.training.processes import Processes
from model.training.resume import Snapshots
from model.training.schedule import build_schedule
from model.training.seeds import configure_numerics, seed_everything, sub_seed
from model.training.spec import RecipeSpec, TrainingSpec
from model.training.split_pass import whole_batch
from model.training.step import ResumableReporter, frozen_copy, to_device, train_step

WEIGHTS = "weights"
"""Key of a recipe's network that names a file of initial weights; all other keys build the network."""


class StepLoader(Protocol):
    """Training batches of either family, numbered through all epochs."""

    @property
    def batches_per_epoch(self) -> int:
        """Number of batches of one epoch, at least 1."""

    def batches(self, start: int, stop: int) -> Iterator[Any]:
        """Batches ``start`` … ``stop - 1``; the same ones whenever and wherever they are asked for."""

    def __iter__(self) -> Iterator[Any]:
        """One pass over the data."""


class JobError(ValueError):
    """Parts of a job that do not fit together; the message says which and what to do."""


@dataclass(frozen=True)
class JobFiles:
    """What a job reads.

    Attributes:
        data: folder of the prepared dataset.
        split: split file of the step.
        previous: checkpoint of the step before; None at the base step.
        memory: memory file of the step; None without replay.
    """

    data: Path
    split: Path
    previous: Path | None = None
    memory: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """A finished job.

    Attributes:
        checkpoint: to be saved.
        facts: for the record: iterations, images, exemplars, parameters, where it was resumed, initial weights.
    """

    checkpoint: Checkpoint
    facts: dict[str, Any]


def run_job(
    spec: TrainingSpec,
    files: JobFiles,
    *,
    device: torch.device,
    make_reporter: Callable[[int], ResumableReporter],
    snapshots: Snapshots | None = None,
    workers: int = 0,
    score: Callable[[nn.Module], float | None] | None = None,
    processes: Processes | None = None,
    micro_batch: int | None = None,
) -> Outcome:
    """Train one step as described.

    Args:
        spec: the description.
        files: what the job reads.
        device: where to train.
        make_reporter: number of iterations to the reporter that is informed of them.
        snapshots: where to continue from and save to; None does neither.
        workers: processes that load images; without effect on the result.
        score: of a network, for a recipe that keeps the best one.
        processes: that train together, see :mod:`model.training.split_pass`; None: this one alone. No effect on the result
            but for rounding, and neither has ``micro_batch``.
        micro_batch: images of one forward pass at most; None: as many as there are.

    Raises:
        ValueError: of the class of the problem, naming file or key.
        Interrupted: after SIGTERM, SIGUSR1 or SIGINT.
    """
    step, recipe = spec.step.step, spec.recipe
    configure_numerics(device, recipe.threads, recipe.tf32)
    method = build_method(spec)
    check_files(spec, files, method)
    images = read_step_images(spec, files.split, files.memory)
    check_shares(recipe.batch_size, recipe.accumulate, 1 if processes is None else processes.count)
    loader = step_loader(spec, PreparedDataset.open(files.data), images, method, workers, device, processes)
    network, old_model, state = build_networks(spec, files.previous, method, device)
    if recipe.compiled:
        torch.use_deterministic_algorithms(device.type == "cpu")  # tells the compiler, too
        for built in (network, old_model):
            compile_parts(built)
    iterations = step_iterations(recipe, loader.batches_per_epoch)
    total = iterations * recipe.accumulate
    best = None
    if recipe.keep_best is not None:
        if score is None:
            raise JobError("the recipe keeps the best network of a step ('keep_best'); give a 'score' to choose by")
        best = BestNetwork(score, recipe.keep_best.every(iterations))

    def one_pass() -> Iterable[Any]:
        own = (batch.to(device) for batch in loader)
        return own if processes is None else (whole_batch(processes, batch)[1] for batch in own)

    def batches(start: int) -> Iterator[Any]:
        return loader.batches(start, total)

    optimiser = recipe.optimiser.model_dump()
    result = train_step(
        network=network,
        old_model=old_model,
        method=method,
        step=step,
        setting=spec.setting,
        batches=batches,
        one_pass=one_pass,
        make_optimiser=partial(
            build_optimiser, optimiser.pop("name"), minimum_rate=recipe.schedule.minimum_rate, **optimiser
        ),
        schedule=build_schedule(recipe.schedule.name, iterations, recipe.schedule.arguments),
        learning_rate=recipe.optimiser.learning_rate,
        iterations=iterations,
        iterations_per_epoch=max(1, loader.batches_per_epoch // recipe.accumulate),
        device=device,
        state=state,
        seed=sub_seed(spec.seed, "training", step.index),
        reporter=make_reporter(iterations),
        accumulate=recipe.accumulate,
        clip_norm=recipe.clip_norm,
        precision=recipe.precision,
        snapshots=snapshots,
        best=best,
        processes=processes,
        micro_batch=micro_batch,
    )
    checkpoint = Checkpoint(
        network=network.state_dict(),
        classes=step.seen,
        classes_per_step=tuple(network.classes_per_step),  # type: ignore[arg-type]
        step=step.index,
        network_arguments=network_arguments(recipe),
        method_state=result.state,
        spec=spec.model_dump(mode="json"),
    )
    facts = {
        "iterations": iterations,
        "batches_per_epoch": loader.batches_per_epoch // recipe.accumulate,
        "images": len(images.images),
        "exemplars": len(images.exemplars),
        "parameters": sum(p.numel() for p in network.parameters()),
        "trainable_parameters": result.trainable_parameters,
        "state_bytes": tensor_bytes(result.state),
        "resumed_at": result.resumed_at,
        "initial_weights": initial_weights(spec),
        **({"best": best.facts} if best is not None else {}),
    }
    return Outcome(checkpoint, facts)


def tensor_bytes(state: State) -> int:
    """What the tensors of a method's state take, in bytes, however deep they are nested: what it keeps in the place of data."""
    return sum(tensor.numel() * tensor.element_size() for tensor in nested_tensors(state))


def nested_tensors(value: Any) -> Iterator[torch.Tensor]:
    """Every tensor inside nested dictionaries, lists and tuples."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from nested_tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from nested_tensors(item)


def network_arguments(recipe: RecipeSpec) -> dict[str, Any]:
    """Name and constructor arguments of the network, without where its initial weights come from."""
    return {key: value for key, value in recipe.network.items() if key != WEIGHTS}


def initial_weights(spec: TrainingSpec) -> dict[str, str] | None:
    """The initial weights of a base step, identified by their content; None without, and at every later step.

    Raises:
        OSError: if the file cannot be read.
    """
    file = initial_weights_file(spec)
    return None if file is None else {"source": spec.recipe.network[WEIGHTS]["source"], "sha256": checksum(file)}


def initial_weights_file(spec: TrainingSpec) -> Path | None:
    """File of the initial weights that a base step starts from; None without, and at every later step.

    Raises:
        ValueError: if the entry of the recipe cannot be followed.
    """
    if spec.step.index > 0 or WEIGHTS not in spec.recipe.network:
        return None
    file: Path = importlib.import_module("model.networks.weights_entry").weights_file(spec.recipe.network[WEIGHTS])
    return file


def build_method(spec: TrainingSpec) -> Method[Any, Any]:
    """The job's method with its hyper-parameters.

    Raises:
        MethodError: for an unknown method or hyper-parameter.
        JobError: if the method does not work on the recipe, task or setting.
    """
    registry = importlib.import_module("model.methods.registry")
    method: Method[Any, Any] = registry.build(spec.method.name, spec.method.hyper_parameters, spec.recipe.family)
    past, current = spec.step.past, spec.step.current
    scenario = Scenario(f"step {spec.step.index}", (past, current) if past else (current,))
    try:
        method.check(spec.recipe, scenario, spec.setting, spec.task)
    except ValueError as error:
        raise JobError(f"method '{spec.method.name}': {error}") from None
    return method


def check_files(spec: TrainingSpec, files: JobFiles, method: Method[Any, Any]) -> None:
    """Whether the files given are the files that the step and the method need.

    Raises:
        JobError: for a checkpoint or memory that is missing or has no place.
    """
    index, name = spec.step.index, spec.method.name
    if index == 0 and files.previous is not None:
        raise JobError("the base step starts from no checkpoint of another step; leave 'previous' out")
    if index > 0 and files.previous is None:
        raise JobError(f"step {index} continues from the checkpoint of step {index - 1}; give it as 'previous'")
    replays = index > 0 and method.memory_policy != "none"
    if replays and files.memory is None:
        raise JobError(f"method '{name}' replays exemplars; give the memory file of step {index}")
    if not replays and files.memory is not None:
        raise JobError(f"method '{name}' replays nothing in step {index}; leave 'memory' out")


def step_loader(
    spec: TrainingSpec,
    dataset: PreparedDataset,
    images: StepImages,
    method: Method[Any, Any],
    workers: int,
    device: torch.device,
    processes: Processes | None = None,
) -> StepLoader:
    """The training batches of a job, or a process's share of them, made by the loader of the recipe's family.

    Raises:
        ValueError: of the transform, annotation or loader.
    """
    make = importlib.import_module("model.training.loaders").resolve(spec.recipe.family)
    share = () if processes is None else (processes.rank, processes.count)
    loader: StepLoader = make(spec, dataset, images, method, workers, device, *share)
    return loader


def build_networks(
    spec: TrainingSpec, previous: Path | None, method: Method[Any, Any], device: torch.device
) -> tuple[nn.Module, nn.Module | None, State]:
    """The network ready to train, the old model if the method asks for it, and the method's state so far.

    Raises:
        CheckpointError: if the previous checkpoint is not of the step before, or of another network.
        ValueError: of the network's constructor.
    """
    registry = importlib.import_module("model.networks.registry")
    step, arguments = spec.step.step, network_arguments(spec.recipe)
    build: Callable[[Iterable[int], Mapping[str, Any]], nn.Module] = partial(registry.build, arguments["name"])
    constructor = {key: value for key, value in arguments.items() if key != "name"}
    seed_everything(sub_seed(spec.seed, "initialisation", step.index))
    if previous is None:
        network = build([len(step.current), *step.future], constructor)
        if WEIGHTS in spec.recipe.network:
            initial = importlib.import_module("model.networks.initial_weights")
            entry = spec.recipe.network[WEIGHTS]
            initial.load_initial_weights(arguments["name"], network, entry, arguments.get("backbone"))
        return network.to(device), None, {}
    checkpoint = load_checkpoint(previous)
    added = spec.recipe.added_arguments if step.index == 1 else ()
    known = {key: value for key, value in arguments.items() if key not in added}
    verify_checkpoint(checkpoint, previous, classes=step.past, network_arguments=known, step=step.index - 1)
    network = build(checkpoint.classes_per_step, constructor)
    load_network(network, checkpoint.network, previous)
    old_model = None
    if method.needs_old_model:
        whole = method.reads_old_parameters
        old_model = (
            frozen_copy(network) if whole else importlib.import_module("model.networks.folding").folded_copy(network)
        )
        old_model.to(device)
    # Again, so that what a method initialises does not depend on how many classes were built before.
    seed_everything(sub_seed(spec.seed, "growth", step.index))
    method.grow(network, step)
    return network.to(device), old_model, to_device(checkpoint.method_state, device)


COMPILED = ("backbone", "sem_seg_head.pixel_decoder")
"""Parts of networks whose operations do not depend on values, so that each is one graph."""


def compile_parts(network: nn.Module | None) -> None:
    """Have backbone and pixel decoder run through ``torch.compile``, in place; names in the state dictionary stay."""
    for name, module in () if network is None else network.named_modules():
        if name in COMPILED:
            module.compile()


def step_iterations(recipe: RecipeSpec, batches_per_epoch: int) -> int:
    """Optimiser steps of this step; an epoch that holds less than one update counts as one."""
    if recipe.iterations is not None:
        return recipe.iterations
    assert recipe.epochs is not None  # the description allows exactly one of the two to be missing
    return recipe.epochs * max(1, batches_per_epoch // recipe.accumulate)
