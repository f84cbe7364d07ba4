"""Fine-tuning: no protection against forgetting, the lower bound of every table.

The network continues to train on the labels of the current step; classes of earlier steps are background there.

    L = CE(z, y)

    z   (B, K, H, W)   logits, background first
    y   (B, H, W)      labels visible in this step, 255 = ignore; the mean is over all pixels

Its base step is the one that most methods continue from, and trained on the scenario ``joint`` it is the upper bound.

Verified against: g_mib_losses (step_FT: value and gradient of a complete training step).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from model.data.loading.pixel_batch import PixelBatch
from model.losses.classification import cross_entropy
from model.methods.base import Context
from model.methods.pixel.base import PixelMethod
from model.networks.deeplabv3.outputs import PixelOutputs


@dataclass(frozen=True)
class Finetuning(PixelMethod):
    """No hyper-parameter."""

    def losses(
        self,
        context: Context,
        batch: PixelBatch,
        outputs: PixelOutputs,
        old_outputs: PixelOutputs | None,
        targets: Tensor,
    ) -> dict[str, Tensor]:
        return {"classification": cross_entropy(outputs.logits, targets)}
