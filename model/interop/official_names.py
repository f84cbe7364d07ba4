"""Our networks under the names of the released implementations, both ways.

Most networks have the released names anyway; what differs is listed here. Files of a released implementation hold weights only,
no classes, order or arguments. These have to be known when a file is read, and every name and every shape has to fit.

Source: the released implementations' own state dicts. ``mib``, ``plop`` and ``sdr`` are derived from their code and were not
compared with a file.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from model.common.weight_files import read_weights
from model.interop.formats import FORMATS, OfficialFormat
from model.networks.backbones.names import timm_model
from model.networks.deeplabv3.released_weights import ABN_EPSILON, from_mib, load_state
from model.networks.mask2former.released_weights import as_in, current_names, to_swin
from model.training.checkpoint import Checkpoint

State = dict[str, Tensor]
_COUNTER = "num_batches_tracked"
BUFFERS = ("criterion.",)
"""What released checkpoints hold besides the network: constants of their loss."""


class OfficialNamesError(ValueError):
    """A network that a released implementation does not have, or a file that does not hold its weights."""


def to_in_place_abn(state: Mapping[str, Tensor]) -> State:
    """Names and scales of MiB's code: the inverse of :func:`model.networks.deeplabv3.released_weights.from_mib`.

    In-place ABN scales with ``|γ| + ε`` and counts no batches. The γ that is written is the one that gives ours again, to the
    last bit; of scales between 6e-5 and 1.2e-4, where some floats cannot be such a sum, the nearest.

    Raises:
        OfficialNamesError: for a scale below ε, which in-place ABN cannot have.
    """
    renamed = {}
    for key, value in state.items():
        if key.endswith(_COUNTER):
            continue
        part, _, rest = key.partition(".")
        name = {"backbone": f"body.{_abn_name(rest)}", "aspp": f"head.{rest}"}.get(part, key)
        scales = part in ("backbone", "aspp") and value.dim() == 1 and key.endswith(".weight")
        renamed[name] = _abn_gamma(key, value) if scales else value
    return renamed


def _abn_name(key: str) -> str:
    """Name in the in-place ABN ResNet of a key of the backbone: the inverse of the reader's."""
    stage, block, *rest = key.split(".")
    if not stage.startswith("layer"):
        return f"mod1.{key}"
    tail = ".".join(rest)
    for theirs, ours in (("proj_conv.", "downsample.0."), ("proj_bn.", "downsample.1."), ("convs.", "")):
        if tail.startswith(ours):
            tail = theirs + tail.removeprefix(ours)
            break
    return f"mod{int(stage.removeprefix('layer')) + 1}.block{int(block) + 1}.{tail}"


def _abn_gamma(key: str, scale: Tensor) -> Tensor:
    if (scale < ABN_EPSILON).any():
        raise OfficialNamesError(
            f"'{key}' has a scale of {float(scale.min()):.3g}, but in-place ABN scales with |γ| + {ABN_EPSILON:g}: only networks "
            "whose scales stayed positive can be stored under MiB's names"
        )
    gamma = scale - ABN_EPSILON
    for _ in range(4):  # the nearest float may be one beside it
        short, long = gamma + ABN_EPSILON < scale, gamma + ABN_EPSILON > scale
        if not (short | long).any():
            return gamma
        infinity = torch.full_like(gamma, float("inf"))
        gamma = torch.where(short, torch.nextafter(gamma, infinity), gamma)
        gamma = torch.where(long, torch.nextafter(gamma, torch.zeros_like(gamma)), gamma)
    return gamma


def format_of(network: nn.Module, arguments: Mapping[str, Any], wanted: str | None = None) -> str:
    """The format that a network can be stored in.

    Args:
        network: as it was built; arguments that were left out are read from it.
        arguments: name and arguments of the recipe.
        wanted: a format, to check whether it fits; None: the first that does.

    Raises:
        OfficialNamesError: if the network has no released counterpart, or not this one.
    """
    fitting = [name for name, form in FORMATS.items() if _fits(form, network, arguments)]
    if wanted is not None and wanted not in FORMATS:
        raise OfficialNamesError(f"there is no format '{wanted}'; choose one of {', '.join(FORMATS)}")
    if wanted in fitting or (wanted is None and fitting):
        return wanted or fitting[0]
    other = f"; it fits {', '.join(fitting)}" if fitting else ""
    project = FORMATS[wanted].project if wanted else "no released implementation that Segue knows"
    verb = "does not have" if wanted else "has"
    raise OfficialNamesError(
        f"{project} {verb} a network such as this '{arguments.get('name')}' and its arguments{other}"
    )


def _fits(form: OfficialFormat, network: nn.Module, arguments: Mapping[str, Any]) -> bool:
    if arguments.get("name") not in form.networks:
        return False
    model = timm_model(str(arguments.get("backbone", "")))
    if model and not (model.startswith("swin_") and arguments["name"].startswith("mask2former")):
        return False  # the releases have ResNets of their own, and Swin
    return all(_argument(network, arguments, name) in values for name, values in form.arguments.items())


def _argument(network: Any, arguments: Mapping[str, Any], name: str) -> Any:
    defaults: dict[str, Any] = {"head": "mib" if str(arguments.get("name")).startswith("deeplabv3") else "steps"}
    defaults |= {"background": True, "auxiliary": False}
    return arguments.get(name, defaults[name])


def official_state(checkpoint: Checkpoint, form: str) -> State:
    """The weights of a checkpoint under released names.

    Raises:
        OfficialNamesError: if a weight cannot be expressed there.
    """
    if FORMATS[form].in_place_abn:
        return to_in_place_abn(checkpoint.network)
    if not FORMATS[form].networks[0].startswith("mask2former"):
        return dict(checkpoint.network)
    of_timm = timm_model(str(checkpoint.network_arguments.get("backbone", "")))
    return with_versions(to_swin(checkpoint.network) if of_timm else checkpoint.network)


def with_versions(state: Mapping[str, Tensor]) -> State:
    """Weights of a mask network with the version of their names.

    torch stores it beside the weights; without it the released code takes the names for those of its first version, puts
    another ``pixel_decoder`` into them, and finds nothing.

    Source: ``_version`` of the head and of the decoder in the released Mask2Former, which all mask formats are derived from.
    """
    versioned = OrderedDict(state)
    versioned._metadata = {name: {"version": 2} for name in ("sem_seg_head", "sem_seg_head.predictor")}  # type: ignore[attr-defined]
    return versioned


def read_official(path: Path, form: str) -> State:
    """The weights of a released file under our names: ``.pth``, ``.pt``, ``.pth.tar``, ``.pkl`` or ``.safetensors``.

    Nothing in the file is executed. The weights may be the content itself or one of its usual entries, with or without the
    prefix of parallel training.

    Raises:
        OfficialNamesError: for a format that does not exist.
        ValueError: naming the file, if it cannot be read.
    """
    if form not in FORMATS:
        raise OfficialNamesError(f"there is no format '{form}'; choose one of {', '.join(FORMATS)}")
    found = {key.removeprefix("module."): value for key, value in read_weights(path).items()}
    kept = {key: value for key, value in found.items() if not key.startswith(BUFFERS)}
    if FORMATS[form].in_place_abn:
        return from_mib(kept)
    return current_names(kept) if FORMATS[form].networks[0].startswith("mask2former") else kept


def fill(network: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Copy released weights into a network, completely or not at all.

    Raises:
        ValueError: naming the first weights that are missing, left over, or of another shape.
    """
    names = network.state_dict()
    adapted = as_in(names, state)
    load_state(
        network, {key: value for key, value in adapted.items() if key in names or not key.endswith(_COUNTER)}, source
    )
