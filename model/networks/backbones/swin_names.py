"""Names of official Swin checkpoints and of timm's Swin: the same weights in the same order, down-sampling in another place.

Liu et al., "Swin Transformer", ICCV 2021; the names are also those of Mask2Former's checkpoints. There a stage ends with its
down-sampling, in timm the next one begins with it. The index of relative positions, which follows from the size of the windows,
is stored there and not in timm.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import isqrt

import torch
from torch import Tensor

State = dict[str, Tensor]

_DOWNSAMPLE = re.compile(r"layers\.(\d+)\.downsample\.")
_TABLE, _INDEX = "relative_position_bias_table", "relative_position_index"


def _shifted(key: str, by: int) -> str:
    return _DOWNSAMPLE.sub(lambda match: f"layers.{int(match[1]) + by}.downsample.", key)


def to_timm(state: Mapping[str, Tensor]) -> State:
    """Official names of a Swin to timm's; what follows from the sizes of windows and images is left out."""
    renamed = {}
    for key, value in state.items():
        if key.endswith((_INDEX, "attn_mask")):
            continue
        renamed[re.sub(r"^head\.(weight|bias)$", r"head.fc.\1", _shifted(key, 1))] = value
    return renamed


def to_official(state: Mapping[str, Tensor]) -> State:
    """timm's names of a Swin to the official ones, with the index of relative positions; the inverse of :func:`to_timm`."""
    renamed = {}
    for key, value in state.items():
        renamed[re.sub(r"^head\.fc\.", "head.", _shifted(key, -1))] = value
        if key.endswith(_TABLE):
            index = relative_positions((isqrt(len(value)) + 1) // 2)
            renamed[key.replace(_TABLE, _INDEX)] = index.to(value.device)
    return renamed


def relative_positions(window: int) -> Tensor:
    """Which row of the table of biases each pair of cells of a window has, (W², W²) int64.

    Rows are numbered by the offset in y, then in x, each from −(W − 1) on.
    """
    with torch.device("cpu"):
        y, x = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
    cells = torch.stack([y.flatten(), x.flatten()])  # 2, W²
    dy, dx = cells[:, :, None] - cells[:, None, :] + window - 1
    return dy * (2 * window - 1) + dx
