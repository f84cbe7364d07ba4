"""One evaluation job, from its description and files to counts: where names become objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from model.data.prepared.dataset import PreparedDataset
from model.evaluation.evaluators import registry as evaluators
from model.evaluation.evaluators.base import EvaluationInputs, EvaluationResult
from model.evaluation.protocols import Protocol, get
from model.methods import registry as methods
from model.networks import registry as networks
from model.networks.folding import folded_copy
from model.networks.registry import is_foreign
from model.scenario import Step
from model.training.checkpoint import CheckpointError, load_checkpoint, load_network


@dataclass(frozen=True)
class Evaluated:
    """A checkpoint under a protocol.

    Attributes:
        dataset: what it was evaluated on.
        step: classes known.
        protocol: how.
        result: counts, values per class, pictures.
    """

    dataset: PreparedDataset
    step: Step
    protocol: Protocol
    result: EvaluationResult


def evaluate_checkpoint(
    spec: Mapping[str, Any], data: Path, checkpoint: Path, *, split: str, device: torch.device, workers: int
) -> Evaluated:
    """Predict every image of a split and count.

    Args:
        spec: task, family, step, protocol, method, size, batch size, threads and number of gallery images.
        data: folder of the prepared dataset.
        checkpoint: of the step that the spec names.
        split: e.g. ``val``.
        device: where the network runs.
        workers: processes that read images.

    Raises:
        CheckpointError: if the checkpoint is of other classes, or damaged.
        ValueError: of whatever else is wrong, naming file or key.
    """
    torch.set_num_threads(spec["threads"])
    step = Step(spec["step"]["index"], tuple(spec["step"]["past"]), tuple(spec["step"]["current"]))
    dataset, protocol = PreparedDataset.open(data), get(spec["protocol"]["name"])
    inputs = EvaluationInputs(
        network=folded_copy(load_evaluated(checkpoint, step, spec["network"]).to(device)),
        method=methods.build(spec["method"]["name"], spec["method"]["hyper_parameters"], spec["family"]),
        step=step,
        dataset=dataset,
        split=split,
        protocol=protocol,
        size=spec["size"],
        longest=spec.get("longest"),
        batch_size=spec["batch_size"],
        device=device,
        workers=workers,
        shown=spec["gallery"],
    )
    return Evaluated(dataset, step, protocol, evaluators.evaluate(spec["family"], spec["task"], inputs))


def load_evaluated(path: Path, step: Step, trusted: str | None = None) -> nn.Module:
    """The network of a checkpoint, which has to know exactly the classes of a step.

    Args:
        path: of the checkpoint.
        step: whose classes it has to know.
        trusted: name of the network that is expected; without it, networks of other packages are not built.

    Raises:
        CheckpointError: if it knows other classes, is of a network whose code is not to be run, or the file is damaged.
    """
    checkpoint = load_checkpoint(path)
    if is_foreign(name := str(checkpoint.network_arguments.get("name"))) and name != trusted:
        raise CheckpointError(
            f"{path}: its network '{name}' comes from another package, and code that a file names is not run; name it with "
            "--network if you trust it"
        )
    if checkpoint.classes != step.seen:
        raise CheckpointError(
            f"{path}: knows classes {list(checkpoint.classes)}, but step {step.index} has {list(step.seen)}; "
            "it belongs to another step, scenario or class order: give the checkpoint of this step"
        )
    arguments = dict(checkpoint.network_arguments)
    network = networks.build(arguments.pop("name"), checkpoint.classes_per_step, arguments)
    load_network(network, checkpoint.network, path)
    return network
