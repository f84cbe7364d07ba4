"""Checkpoints as safetensors files: tensors and text, nothing that could be executed.

The tensors of the network are called ``network.<name>``, those of the method's state ``method_state.<path>``; everything else
of a checkpoint is JSON in the file's metadata, under ``segue``. Reading it back gives the same checkpoint, bit for bit.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from model.common.files import atomic_file
from model.training.checkpoint import Checkpoint, refuse_unsafe, to_cpu

FORMAT = 1
KEY = "segue"
"""Of the metadata, under which a checkpoint describes itself."""
_NETWORK, _STATE = "network.", "method_state."


class SafetensorsError(ValueError):
    """A safetensors file that cannot be read as what it should be; the message names it and the remedy."""


def write_safetensors(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; the file appears only when complete, and equal checkpoints give equal files.

    Raises:
        CheckpointError: if the method's state holds something that could not be read back.
        NotWrittenError: if the file cannot be written.
    """
    refuse_unsafe(checkpoint.method_state, "method_state")
    tensors = {_NETWORK + name: tensor for name, tensor in to_cpu(checkpoint.network).items()}
    description = {
        "format": FORMAT,
        "classes": list(checkpoint.classes),
        "classes_per_step": list(checkpoint.classes_per_step),
        "step": checkpoint.step,
        "network_arguments": checkpoint.network_arguments,
        "method_state": _emptied(to_cpu(checkpoint.method_state), _STATE[:-1], tensors),
        "spec": checkpoint.spec,
    }
    # Its own memory for each: the format knows no two names of one tensor.
    content = save(
        {name: tensor.contiguous().clone() for name, tensor in tensors.items()}, {KEY: json.dumps(description)}
    )
    with atomic_file(path) as file:
        file.write(content)


def read_safetensors(path: Path) -> Checkpoint:
    """What :func:`write_safetensors` wrote.

    Raises:
        SafetensorsError: if the file is missing, truncated, no safetensors file, or one of another program.
    """
    tensors, metadata = read_tensors(path)
    if KEY not in metadata:
        raise SafetensorsError(
            f"{path}: it does not describe classes and network, so it is not a checkpoint of Segue; to read released weights, "
            "name their format"
        )
    try:
        description = json.loads(metadata[KEY])
        if description["format"] != FORMAT:
            raise SafetensorsError(
                f"{path}: has format {description['format']}, this version reads {FORMAT}; export it again"
            )
        return Checkpoint(
            {name.removeprefix(_NETWORK): tensor for name, tensor in tensors.items() if name.startswith(_NETWORK)},
            tuple(int(category) for category in description["classes"]),
            tuple(int(count) for count in description["classes_per_step"]),
            int(description["step"]),
            dict(description["network_arguments"]),
            _filled(description["method_state"], tensors),
            dict(description["spec"]),
        )
    except SafetensorsError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SafetensorsError(f"{path}: its description is damaged ({error!r}); export it again") from None


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The named tensors of any safetensors file, on the CPU, and its metadata.

    Raises:
        SafetensorsError: if it is missing, truncated or something else.
    """
    if not path.is_file():
        raise SafetensorsError(f"{path}: there is no such file; check the path")
    try:
        with safe_open(str(path), framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise SafetensorsError(f"{path}: cannot be read as safetensors ({reason}); copy or download it again") from None


def _emptied(value: Any, where: str, tensors: dict[str, Tensor]) -> Any:
    """A nested value as JSON, its tensors moved to ``tensors``; dictionaries keep the types of their keys, tuples stay tuples."""
    if isinstance(value, Tensor):
        tensors[where] = value
        return {"tensor": where}
    if isinstance(value, Mapping):
        return {"items": [[key, _emptied(item, f"{where}.{key}", tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_emptied(item, f"{where}.{place}", tensors) for place, item in enumerate(value)]}
    return value


def _filled(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "items":
        return dict(_pairs(content, tensors))
    made = [_filled(item, tensors) for item in content]
    return tuple(made) if kind == "tuple" else made


def _pairs(content: Any, tensors: Mapping[str, Tensor]) -> Iterator[tuple[Any, Any]]:
    for key, item in content:
        yield key, _filled(item, tensors)
