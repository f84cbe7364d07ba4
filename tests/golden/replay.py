"""Recorded random draws in the place of new ones."""

from __future__ import annotations

import re

import torch
from golden import Recording
from torch import Tensor


class RecordedDraws:
    """Uniform points (sets, points, 2) in the order of the recording; a draw of another shape is an error."""

    def __init__(self, recording: Recording, dtype: torch.dtype, prefix: str = "") -> None:
        names = sorted(name for name in recording.arrays if re.fullmatch(rf"{re.escape(prefix)}rand\.\d+", name))
        self.remaining = [(name, recording.tensor(name, dtype)) for name in names]

    def __call__(self, sets: int, points: int) -> Tensor:
        if points == 0:
            return torch.empty(sets, 0, 2)
        name, values = self.remaining.pop(0)
        assert values.shape == (sets, points, 2), f"{name} has shape {tuple(values.shape)}, asked for {sets}, {points}"
        return values
