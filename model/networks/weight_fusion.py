"""Averages of two states of a network.

Xiao, Zhang, Feng, Liu, van de Weijer & Cheng, "Endpoints Weight Fusion for Class Incremental Semantic Segmentation" (EWF), CVPR
2023.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

State = dict[str, Tensor]


class FusionError(ValueError):
    """Two states that cannot be averaged; the message names the entry."""


def balanced_weight(new_classes: int, old_channels: int) -> float:
    r"""Weight of the newer state, :math:`α = \sqrt{N / (N + K_{old})}`: the more is known, the less a step may change.

    Args:
        new_classes: N, classes of the present step.
        old_channels: K_old, classes of all earlier steps and the background.

    Raises:
        FusionError: unless both are positive.

    Source: EWF (2023); released code.
    """
    if new_classes < 1 or old_channels < 1:
        raise FusionError(f"{new_classes} new classes and {old_channels} old channels: expected at least one of each")
    return math.sqrt(new_classes / (new_classes + old_channels))


def fuse(
    old: Mapping[str, Tensor], new: Mapping[str, Tensor], weight: float, moved_share: float | None = None
) -> State:
    r"""The average of two states, :math:`θ = (1 - α)\,θ_{old} + α\,θ_{new}`, entry by entry.

    Running statistics are averaged like parameters. Entries of the new state without an old counterpart (the new classifier)
    and counters, which are integers, are those of the new state.

    Args:
        old: state before the step.
        new: state after it, with an entry of the same shape for each of the old state's.
        weight: α of the new state; 1 keeps it, 0 takes the old one's entries.
        moved_share: average only the scalars that moved most and keep the new value of the others: τ is the
            ``int(share * count)``-th largest change of all, and what changed by at least τ is averaged. None averages all.

    Returns:
        A state with the keys of the new one; nothing given is changed.

    Raises:
        FusionError: for an entry that the new state lacks or has in another shape, or a weight or share out of 0 … 1.

    Source: EWF (2023); the share is an option of the released code that no released script uses.
    """
    for name, number in (("weight", weight), ("share", moved_share)):
        if number is not None and not 0 <= number <= 1:
            raise FusionError(f"the {name} of a fusion must be between 0 and 1, not {number}")
    for key, value in old.items():
        if key not in new or new[key].shape != value.shape:
            shape = tuple(new[key].shape) if key in new else "missing"
            raise FusionError(f"'{key}' of the old state is {tuple(value.shape)}, but {shape} in the new one")
    shared = [key for key in old if new[key].is_floating_point()]
    threshold = None if moved_share is None else _threshold(old, new, shared, moved_share)
    fused = {key: value.clone() for key, value in new.items()}
    for key in shared:
        average = (1 - weight) * old[key] + weight * new[key]
        if threshold is not None:
            average = torch.where((new[key] - old[key]).abs() >= threshold, average, new[key])
        fused[key] = average
    return fused


def _threshold(old: Mapping[str, Tensor], new: Mapping[str, Tensor], keys: list[str], share: float) -> float:
    """The ``int(share * count)``-th largest change; infinite if that is none."""
    changes = torch.cat([(new[key] - old[key]).abs().flatten() for key in keys])
    place = int(share * changes.numel())
    return float("inf") if place == 0 else float(changes.sort(descending=True).values[place - 1])
