"""Fine-tuning with replay: the simplest use of an exemplar memory.

Half of every batch are exemplars of earlier steps. Exemplars carry the labels of past and current classes, the other
images those of the current step only, and nothing else counters forgetting:

    L = CE(z, y)        over current images and exemplars

    z   (B, K, H, W)   logits, background first
    y   (B, H, W)      visible labels, 255 = ignore; the mean is over all pixels

A baseline of this project, not of a paper. Past classes are background in current images and classes in exemplars: that
contradiction is part of the baseline.

Verified against: g_mib_losses for the loss (that of fine-tuning); the memory is tested with the selection rules.
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
class FinetuningReplay(PixelMethod):
    """No hyper-parameter; size and selection of the memory belong to the experiment."""

    memory_policy = "annotations"
    replay_mixing = "half-batch"

    def losses(
        self,
        context: Context,
        batch: PixelBatch,
        outputs: PixelOutputs,
        old_outputs: PixelOutputs | None,
        targets: Tensor,
    ) -> dict[str, Tensor]:
        return {"classification": cross_entropy(outputs.logits, targets)}
