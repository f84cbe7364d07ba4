"""The precision that losses are computed in."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_single(x: Tensor) -> Tensor:
    """Half-precision tensors in single precision, others unchanged."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
