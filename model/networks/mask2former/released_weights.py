"""Public checkpoints into our networks: other names for the same weights.

Whole networks: Mask2Former's and BalConpas's releases. Backbones: torchvision, detectron2, and the older Caffe2 names of
detectron2's MSRA ResNets.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from model.common.weight_files import WeightFileError, read_weights
from model.networks.backbones.detectron_resnet import ResNet
from model.networks.backbones.swin_names import to_official, to_timm
from model.networks.mask2former.network import Mask2Former

_BACKBONE = "backbone."
_HEAD = "sem_seg_head."
_PREDICTOR = "sem_seg_head.predictor."
_PIXEL_DECODER = "sem_seg_head.pixel_decoder."


class WeightMismatchError(ValueError):
    """Weights that do not fit the network; the message names the file and the first differences."""


def load_network(network: Mask2Former, path: Path) -> None:
    """Fill a network with a public checkpoint of the same configuration, in place.

    Constant buffers of the released criteria are ignored. A joint class head and the head of a first step hold the same
    rows, so a Mask2Former checkpoint fits a network of one step, and the other way round.

    Raises:
        WeightFileError: if the file cannot be read.
        WeightMismatchError: if names or shapes differ.
    """
    _fill(network, as_in(network.state_dict(), current_names(read_weights(path))), path)


def load_backbone(backbone: ResNet, path: Path) -> None:
    """Fill a backbone with ImageNet weights, in place; the classifier of the file is ignored.

    Raises:
        WeightFileError: if the file cannot be read or holds no ResNet under known names.
        WeightMismatchError: if names or shapes differ.
    """
    state = read_weights(path)
    if "layer1.0.conv1.weight" in state:
        state = from_torchvision(state)
    elif "conv1_w" in state:
        state = from_caffe2(state)
    elif "stem.conv1.weight" not in state:
        raise WeightFileError(f"{path}: no ResNet of torchvision, detectron2 or Caffe2; the first name is {min(state)}")
    _fill(backbone, {key: value for key, value in state.items() if key.startswith(("stem.", "res"))}, path)


def current_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names of older Mask2Former releases to today's, without the criterion's buffers.

    Early files call the content queries ``static_query`` and keep the pixel decoder directly under the head.
    """
    renamed = {}
    for key, value in state.items():
        if key.startswith("criterion."):
            continue
        if key.startswith(_PREDICTOR):
            key = key.replace("static_query", "query_feat")
        elif key.startswith(_HEAD) and not key.startswith(_PIXEL_DECODER):
            key = _PIXEL_DECODER + key.removeprefix(_HEAD)
        renamed[key] = value
    return renamed


def as_in(names: Container[str], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights that may have another form in a network, in the form that it has: the head of a single step, and a Swin's.

    Args:
        names: of the network's weights.
        state: weights under today's names.
    """
    found = dict(state)
    for mine, theirs in (("class_embed.", "class_embeds.0."), ("class_embeds.0.", "class_embed.")):
        ours, other = (f"{_PREDICTOR}{part}weight" for part in (mine, theirs))
        if ours in names and ours not in found and other in found:
            found = {key.replace(_PREDICTOR + theirs, _PREDICTOR + mine): value for key, value in found.items()}
    first = "patch_embed.proj.weight"
    if f"{_BACKBONE}{first}" in found and f"{_BACKBONE}model.{first}" in names:
        found = from_swin(found)
    return found


def from_swin(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names of a Mask2Former on a Swin to those of one whose Swin is timm's; each map's normalisation keeps its name."""
    swin, rest = _split(state, _BACKBONE)
    inner: dict[str, Tensor] = {}
    norms: dict[str, Tensor] = {}
    for key, value in swin.items():
        (norms if re.match(r"norm\d\.", key) else inner)[key] = value
    renamed = {f"{_BACKBONE}model.{key}": value for key, value in to_timm(inner).items()}
    return {**renamed, **{_BACKBONE + key: value for key, value in norms.items()}, **rest}


def to_swin(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of :func:`from_swin`: names of the public checkpoints."""
    swin, rest = _split(state, f"{_BACKBONE}model.")
    return {**{_BACKBONE + key: value for key, value in to_official(swin).items()}, **rest}


def _split(state: Mapping[str, Tensor], prefix: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What is under a prefix, without it, and what is not."""
    inside = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    return inside, {key: value for key, value in state.items() if not key.startswith(prefix)}


def from_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's names of a ResNet to detectron2's; the classifier is left out."""
    rules = (
        (r"^(conv1|bn1)\.", r"stem.\1."),
        (r"^layer(\d)\.", lambda match: f"res{int(match[1]) + 1}."),
        (r"\.downsample\.0\.", ".shortcut."),
        (r"\.downsample\.1\.", ".shortcut.norm."),
        (r"\.bn(\d)\.", r".conv\1.norm."),
    )
    return _rename({key: value for key, value in state.items() if not key.startswith("fc.")}, rules)


def from_caffe2(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Caffe2's names of a ResNet to detectron2's.

    The normalisation of these files is folded into scale and offset: means are set to 0 and variances to 1.
    """
    rules = (
        (r"^res_conv1_bn", "conv1_bn"),
        (r"^conv1_", "stem.conv1_"),
        (r"^res(\d)_(\d+)_", r"res\1.\2."),
        (r"\.branch1_", ".shortcut_"),
        (r"\.branch2([abc])_", lambda match: f".conv{'abc'.index(match[1]) + 1}_"),
        (r"_bn_s$", ".norm.weight"),
        (r"_bn_b$", ".norm.bias"),
        (r"_w$", ".weight"),
    )
    renamed = _rename({key: value for key, value in state.items() if not key.startswith(("fc1000", "pred"))}, rules)
    for key in [key for key in renamed if key.endswith(".norm.weight")]:
        prefix = key.removesuffix("weight")
        renamed[prefix + "running_mean"] = torch.zeros_like(renamed[key])
        renamed[prefix + "running_var"] = torch.ones_like(renamed[key])
    return renamed


def _rename(state: Mapping[str, Tensor], rules: tuple) -> dict[str, Tensor]:
    renamed = {}
    for key, value in state.items():
        for pattern, replacement in rules:
            key = re.sub(pattern, replacement, key)
        renamed[key] = value
    return renamed


def _fill(module: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Load by name, after checking that nothing is missing, left over or of another shape."""
    own = module.state_dict()
    counters = {key for key in own if key.endswith("num_batches_tracked")}  # frozen files lack them, ours may too
    state = {key: value for key, value in state.items() if key in own or not key.endswith("num_batches_tracked")}
    problems = [f"'{key}' is missing" for key in own.keys() - state.keys() - counters]
    problems += [f"'{key}' is not part of the network" for key in state.keys() - own.keys()]
    problems += [
        f"'{key}' has shape {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
        for key in own.keys() & state.keys()
        if state[key].shape != own[key].shape
    ]
    if problems:
        shown = "; ".join(sorted(problems)[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
        raise WeightMismatchError(
            f"{path}: the weights do not fit the network: {shown}. "
            "Compare backbone, normalisation, classes and queries of the recipe with the checkpoint's"
        )
    module.load_state_dict(dict(state), strict=False)
