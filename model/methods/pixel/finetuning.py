"""Fine-tuning: no protection against forgetting, the lower bound of every table.

The network goes on training on the labels of the current step; classes of earlier steps are background there.

    L = CE(z, y)

    z   (B, K, H, W)   logits, background first
    y   (B, H, W)      labels visible in this step, 255 = ignore; the mean is over all pixels

Its base step is the one that most methods continue from, and trained on the scenario ``joint`` it is the upper bound.

Verified against: g_mib_losses (step_FT: value and gradient of a whole training step).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from model.losses.classification import cross_entropy
from model.methods.base import PixelMethod, State


@dataclass(frozen=True)
class Finetuning(PixelMethod):
    """No hyper-parameter."""

    def losses(
        self, network: nn.Module, batch: Any, outputs: Any, old_outputs: Any, targets: Any, state: State
    ) -> dict[str, Tensor]:
        return {"classification": cross_entropy(outputs.logits, targets)}
