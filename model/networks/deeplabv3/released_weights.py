"""Published weights: ImageNet backbones, and checkpoints of the released DeepLab-family methods.

Files are read with ``weights_only=True``: tensors and plain containers, nothing that runs code. Every key must have its
place, and every place its key; the only exception is ``num_batches_tracked``, which old files and InPlaceABN lack and
nothing here uses.

InPlaceABN scales with ``|γ| + ε``; its weights are converted on loading, so that ordinary batch normalisation gives
the same result.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from model.common.torch_files import TorchFileError, read_torch
from model.common.weight_files import SAFETENSORS, WeightFileError, read_weights

State = dict[str, Tensor]
Source = Literal["torchvision", "in-place-abn", "dkd", "mib", "ssul", "barm"]

ABN_EPSILON = 1e-5
"""InPlaceABN's ε, in the normalisation and added to ``|γ|``."""

_CONTAINERS = ("state_dict", "model_state", "model_state_dict", "model", "network")
_BLOCK = re.compile(r"mod(?P<stage>[2-5])\.block(?P<block>\d+)\.(?P<rest>.+)")


class CheckpointError(ValueError):
    """A file of weights that cannot be used; the message names the file and what is wrong with it."""


def read_state(file: Path) -> State:
    """The state dict in a file, without the ``module.`` prefix of parallel training.

    Args:
        file: ``.safetensors``, or saved by ``torch.save``: a state dict, or a dictionary that holds one under a common name.

    Raises:
        CheckpointError: if the file is missing, damaged, holds more than tensors and plain values, or no state dict.
    """
    try:
        content: Any = read_weights(file) if file.suffix == SAFETENSORS else read_torch(file)
    except FileNotFoundError:
        raise CheckpointError(f"{file}: no such file; download the weights, or correct the path") from None
    except WeightFileError as error:
        raise CheckpointError(str(error)) from None
    except TorchFileError as error:
        raise CheckpointError(f"{file}: not a file of weights, or damaged ({error}); download it again") from None
    if isinstance(content, Mapping):
        inner = next((content[name] for name in _CONTAINERS if isinstance(content.get(name), Mapping)), content)
        state = {str(k).removeprefix("module."): v for k, v in inner.items() if isinstance(v, Tensor)}
        if state:
            return state
    raise CheckpointError(f"{file}: expected a state dict, possibly under one of {', '.join(_CONTAINERS)}; found none")


def load_state(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Copy a state dict into a module, completely or not at all.

    Args:
        module: takes the values.
        state: one entry for each of its parameters and buffers; ``num_batches_tracked`` may be missing.
        source: where the weights come from, for messages.

    Raises:
        CheckpointError: for keys without a place, places without a key, or other shapes.
    """
    own = module.state_dict()
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in own]
    shapes = [
        f"{key} is {tuple(state[key].shape)}, expected {tuple(value.shape)}"
        for key, value in own.items()
        if key in state and state[key].shape != value.shape
    ]
    problems = []
    for what, names in (("missing", missing), ("not in the network", unexpected), ("of another shape", shapes)):
        if names:
            rest = f" and {len(names) - 3} more" if len(names) > 3 else ""
            problems.append(f"{len(names)} {what}: {', '.join(names[:3])}{rest}")
    if problems:
        message = f"{source}: the weights do not fit the network ({'; '.join(problems)})"
        raise CheckpointError(f"{message}; check backbone, head and classes of the recipe")
    module.load_state_dict(dict(state), strict=False)


def _plain_gamma(key: str, value: Tensor) -> Tensor:
    """γ of an InPlaceABN layer as batch normalisation needs it; everything else unchanged."""
    return value.abs() + ABN_EPSILON if re.search(r"bn\d?\.weight$", key) else value


def _abn_body_key(key: str) -> str:
    """Name in the backbone of a key of the InPlaceABN ResNet (``mod1`` … ``mod5``)."""
    match = _BLOCK.fullmatch(key)
    if match is None:
        return key.removeprefix("mod1.")
    rest = match["rest"].removeprefix("convs.")
    rest = re.sub(r"^proj_conv\.", "downsample.0.", rest)
    rest = re.sub(r"^proj_bn\.", "downsample.1.", rest)
    return f"layer{int(match['stage']) - 1}.{int(match['block']) - 1}.{rest}"


def from_torchvision(state: Mapping[str, Tensor]) -> State:
    """A torchvision ResNet without its classification layer."""
    return {key: value for key, value in state.items() if not key.startswith("fc.")}


def from_in_place_abn(state: Mapping[str, Tensor]) -> State:
    """An InPlaceABN ResNet (``resnet101_iabn_sync`` and its kind) without its classification layer."""
    kept = {key: value for key, value in state.items() if not key.startswith("classifier.")}
    return {_abn_body_key(key): _plain_gamma(key, value) for key, value in kept.items()}


def from_dkd(state: Mapping[str, Tensor]) -> State:
    """A checkpoint of DKD or STAR with ordinary batch normalisation: the names are the network's own."""
    return dict(state)


def from_mib(state: Mapping[str, Tensor]) -> State:
    """A checkpoint of MiB or PLOP: InPlaceABN in ``body`` and ``head``, classifiers in ``cls``."""
    converted = {}
    for key, value in state.items():
        part, _, rest = key.partition(".")
        if part == "body":
            converted[f"backbone.{_abn_body_key(rest)}"] = _plain_gamma(key, value)
        elif part == "head":
            converted[f"aspp.{rest}"] = _plain_gamma(key, value)
        else:
            converted[key] = value
    return converted


_CONVERSIONS: dict[str, Callable[[Mapping[str, Tensor]], State]] = {
    "torchvision": from_torchvision,
    "in-place-abn": from_in_place_abn,
    "dkd": from_dkd,
    "mib": from_mib,
    "ssul": dict,
    "barm": dict,
}


def load_weights(module: nn.Module, file: Path, source: Source) -> None:
    """Fill a backbone (``torchvision``, ``in-place-abn``) or a whole network (``dkd``, ``mib``, ``ssul``, ``barm``) from a file.

    Args:
        module: a :class:`model.networks.backbones.resnet.ResNet` or a network of :mod:`model.networks.deeplabv3`.
        file: see :func:`read_state`.
        source: whose names the file uses.

    Raises:
        CheckpointError: if the file cannot be read, or does not fit completely.
    """
    if source not in _CONVERSIONS:
        raise CheckpointError(f"unknown source of weights '{source}', expected one of {', '.join(_CONVERSIONS)}")
    completed = getattr(module, "with_twins", dict)  # of a network whose convolutions have twins
    load_state(module, completed(_CONVERSIONS[source](read_state(file))), str(file))
