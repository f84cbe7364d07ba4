"""Modelling the Background (MiB).

Cermelli, Mancini, Rota Bulò, Ricci & Caputo, "Modeling the Background for Incremental Learning in Semantic Segmentation",
CVPR 2020.

What is background changes from step to step: now it hides the old classes, before it hid the new ones. The class loss
therefore reads a background label as "background or any old class", the distillation reads the old network's background as
"background or any new class", and new classifiers start from the background's, so that the first forward pass agrees with
the old network:

    L = CE(q, y) + λ · KD(q', z_old)

    q        (B, 1 + N, H, W)   softmax with background and old classes summed into channel 0
    q'       (B, K_old, H, W)   softmax with background and new classes summed into channel 0
    z_old    (B, K_old, H, W)   logits of the previous step's network, background first
    y        (B, H, W)          labels visible in this step, 255 = ignore; the mean is over all pixels
    λ                           distillation_weight, 10 in all of the paper's settings

Labels of old classes (setting ``sequential``, or exemplars) count as background in the class loss.

Verified against: g_mib_losses (step_MiB: value and gradient of a complete training step; init_classifier).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from model.data.loading.pixel_batch import PixelBatch
from model.losses.background_losses import background_losses
from model.losses.classification import cross_entropy
from model.methods.base import Context, Weight
from model.methods.pixel.base import PixelMethod
from model.networks.deeplabv3.initialisation import initialise_from_background
from model.networks.deeplabv3.outputs import PixelOutputs
from model.scenario import Step


@dataclass(frozen=True)
class MiB(PixelMethod):
    """The fields are the hyper-parameters, with the released defaults."""

    distillation_weight: Weight = 10.0
    background_initialisation: bool = True

    needs_old_model = True

    def grow(self, network: Any, step: Step) -> None:
        network.grow(len(step.current))
        if self.background_initialisation:
            initialise_from_background(network.cls)

    def losses(
        self,
        context: Context,
        batch: PixelBatch,
        outputs: PixelOutputs,
        old_outputs: PixelOutputs | None,
        targets: Tensor,
    ) -> dict[str, Tensor]:
        if old_outputs is None:
            return {"classification": cross_entropy(outputs.logits, targets)}
        classification, distillation = background_losses(outputs.compact_logits, old_outputs.compact_logits, targets)
        return {"classification": classification, "distillation": self.distillation_weight * distillation}
