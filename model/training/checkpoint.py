"""The checkpoint of a step: what the next step and the evaluation need, and nothing that changes between equal runs.

Checkpoints may come from other people. They are read without executing anything they contain, and everything that must
hold is verified before a weight is used: the classes, their order, the step, the network's arguments and its keys.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from model.common.files import atomic_file
from model.common.torch_files import TorchFileError, read_torch
from model.methods.base import State

FORMAT = 1


class CheckpointError(ValueError):
    """A checkpoint that cannot be written, read or used; the message names the file, what differs and the remedy."""


@dataclass(frozen=True)
class Checkpoint:
    """Content of a checkpoint file.

    Attributes:
        network: state dict of the network, on the CPU.
        classes: category ids known to the network, in learning order.
        classes_per_step: outputs of each of the network's classifiers, as the network counts them.
        step: index of the step after which it was written.
        network_arguments: the recipe's network: name and constructor arguments.
        method_state: what the method carries to the next step: tensors and plain values.
        spec: the complete job it was trained by; informative.
    """

    network: dict[str, Tensor]
    classes: tuple[int, ...]
    classes_per_step: tuple[int, ...]
    step: int
    network_arguments: dict[str, Any]
    method_state: State = field(default_factory=dict)
    spec: dict[str, Any] = field(default_factory=dict)


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; the file appears under its name only when it is complete.

    Raises:
        CheckpointError: if the method's state holds something that could not be read back.
    """
    refuse_unsafe(checkpoint.method_state, "method_state")
    content: dict[str, Any] = {f.name: getattr(checkpoint, f.name) for f in fields(checkpoint)}
    content |= {"format": FORMAT, "classes": list(checkpoint.classes)}
    content |= {"classes_per_step": list(checkpoint.classes_per_step)}
    # Written through a file object: with a path, torch puts the temporary name inside and equal runs would differ.
    with atomic_file(path) as file:
        torch.save({name: to_cpu(content[name]) for name in sorted(content)}, file)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint without running any code it might contain.

    Raises:
        CheckpointError: if the file is missing, truncated, not a checkpoint of this format, or holds more than data.
    """
    content = load_data(path)
    if not isinstance(content, Mapping) or "format" not in content:
        raise CheckpointError(f"{path}: not a Segue checkpoint (no entry 'format'); convert it first")
    found = content["format"]
    if type(found) is not int:
        raise CheckpointError(f"{path}: not a Segue checkpoint (its entry 'format' is no number); convert it first")
    if found != FORMAT:
        raise CheckpointError(
            f"{path}: checkpoint format {found}, but this version reads format {FORMAT}; train it again"
        )
    missing = sorted({f.name for f in fields(Checkpoint)} - content.keys())
    if missing:
        raise CheckpointError(f"{path}: the checkpoint lacks {_listed(missing)}; delete it and train the step again")
    for key, expected in _ENTRIES.items():
        if not expected(content[key]):
            raise CheckpointError(
                f"{path}: its entry '{key}' is of another kind than Segue writes; delete it and train the step again"
            )
    _check_outputs(path, content["classes_per_step"], content["network"])
    known = {f.name: content[f.name] for f in fields(Checkpoint)}
    known |= {"classes": tuple(content["classes"]), "classes_per_step": tuple(content["classes_per_step"])}
    return Checkpoint(**known)


def verify_checkpoint(
    checkpoint: Checkpoint,
    path: Path,
    *,
    classes: Sequence[int],
    network_arguments: Mapping[str, Any],
    step: int | None = None,
) -> None:
    """Refuse a checkpoint that does not know exactly these classes in this order, or is of another network.

    Args:
        checkpoint: as loaded.
        path: named in messages.
        classes: category ids expected, in learning order.
        network_arguments: the recipe's network.
        step: index of the step it must be from; None accepts any.

    Raises:
        CheckpointError: naming the first difference.
    """
    expected, found = tuple(classes), checkpoint.classes
    if len(expected) != len(found):
        raise CheckpointError(f"{path}: knows {len(found)} classes, but {len(expected)} are expected; {_REMEDY}")
    if expected != found:
        at = next(i for i, pair in enumerate(zip(expected, found, strict=True)) if pair[0] != pair[1])
        what = "in another order" if sorted(expected) == sorted(found) else "others than expected"
        raise CheckpointError(
            f"{path}: its classes are {what}: place {at} holds class {found[at]} instead of {expected[at]}; {_REMEDY}"
        )
    if step is not None and checkpoint.step != step:
        raise CheckpointError(f"{path}: was written after step {checkpoint.step}, not after step {step}; {_REMEDY}")
    ours, theirs = dict(network_arguments), checkpoint.network_arguments
    for name in sorted(ours.keys() | theirs.keys()):
        if ours.get(name) != theirs.get(name):
            raise CheckpointError(
                f"{path}: its network has {name} = {theirs.get(name)!r}, "
                f"but the recipe says {ours.get(name)!r}; {_REMEDY}"
            )


def load_network(network: nn.Module, state_dict: Mapping[str, Tensor], path: Path) -> None:
    """Load weights by name; every key and every shape must fit, and every number has to be finite.

    Raises:
        CheckpointError: naming the missing, unexpected and mis-shaped entries, or those with NaN or infinity.
    """
    own = network.state_dict()
    shapes = [
        f"{key} {tuple(state_dict[key].shape)} instead of {tuple(own[key].shape)}"
        for key in own.keys() & state_dict.keys()
        if state_dict[key].shape != own[key].shape
    ]
    problems = {
        "missing": sorted(own.keys() - state_dict.keys()),
        "unexpected": sorted(state_dict.keys() - own.keys()),
        "of another shape": sorted(shapes),
    }
    found = [f"{len(keys)} {what} ({_listed(keys)})" for what, keys in problems.items() if keys]
    if found:
        raise CheckpointError(f"{path}: the weights do not fit the network: {'; '.join(found)}; {_REMEDY}")
    if broken := sorted(key for key, tensor in state_dict.items() if not torch.isfinite(tensor).all()):
        raise CheckpointError(
            f"{path}: {len(broken)} of its {len(own)} weights hold NaN or infinity ({_listed(broken)}): the training "
            "diverged, or the file was damaged before it was written; delete it and train the step again, with a lower "
            "learning rate if it diverges"
        )
    network.load_state_dict(dict(state_dict))


def load_data(path: Path) -> Any:
    """Read a file written by ``torch.save`` that holds tensors and plain values only.

    Raises:
        CheckpointError: if it is missing, damaged, or holds anything else.
    """
    try:
        return read_torch(path, old_format=False)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: there is no such checkpoint") from error
    except TorchFileError as error:
        raise CheckpointError(
            f"{path}: not a readable checkpoint ({error}); it is damaged, or holds more than tensors and plain "
            "values. Delete it to train the step again"
        ) from error


def refuse_unsafe(value: Any, where: str) -> None:
    """Accept tensors, plain values and containers of them, which is what can be read back without running code.

    Raises:
        CheckpointError: naming the place of anything else.
    """
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str | int):
                raise CheckpointError(f"{where}: the key {key!r} is neither text nor an integer")
            refuse_unsafe(item, f"{where}[{key!r}]")
    elif type(value) in (list, tuple):
        for index, item in enumerate(value):
            refuse_unsafe(item, f"{where}[{index}]")
    elif isinstance(value, Tensor) and value.layout != torch.strided:
        raise CheckpointError(f"{where}: a sparse tensor cannot be stored; keep it dense")
    elif not (value is None or isinstance(value, Tensor) or type(value) in (bool, int, float, str)):
        raise CheckpointError(
            f"{where}: a {type(value).__name__} cannot be stored; keep tensors, numbers, text, lists and dictionaries"
        )


def to_cpu(value: Any) -> Any:
    """The same nested value with detached CPU tensors that own exactly their memory."""
    if isinstance(value, Tensor):
        tensor = value.detach().cpu()
        # A view would be written with the complete storage behind it.
        whole = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
        return tensor if whole else tensor.clone()
    if isinstance(value, Mapping):
        return {key: to_cpu(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(to_cpu(item) for item in value)
    return value


def _check_outputs(path: Path, classes_per_step: Sequence[int], network: Mapping[str, Tensor]) -> None:
    """Refuse more outputs than the weights have rows, before memory is asked for to hold them."""
    outputs = sum(classes_per_step)
    rows = sum(tensor.shape[0] for tensor in network.values() if tensor.ndim)
    if min(classes_per_step, default=0) < 0 or outputs > rows:
        raise CheckpointError(
            f"{path}: its entry 'classes_per_step' names {outputs} outputs, which its weights do not have; delete it and "
            "train the step again"
        )


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(key, str) for key in value)


def _are_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int for item in value)


_ENTRIES: Mapping[str, Callable[[Any], bool]] = {
    "network": lambda value: _is_mapping(value) and all(isinstance(item, Tensor) for item in value.values()),
    "classes": _are_numbers,
    "classes_per_step": _are_numbers,
    "step": lambda value: type(value) is int,
    "network_arguments": _is_mapping,
    "method_state": _is_mapping,
    "spec": _is_mapping,
}
_REMEDY = "give the checkpoint of the same scenario, order and recipe, or train it again"


def _listed(names: Sequence[str], most: int = 4) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f", … {rest} more" if rest > 0 else "")
