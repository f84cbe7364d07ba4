"""Learning without Forgetting (LwF), carried from classification to segmentation.

Li & Hoiem, "Learning without Forgetting", ECCV 2016. Baseline in Cermelli et al., MiB, CVPR 2020.

The network is trained on the labels of the current step only. The frozen network of the previous step looks at the same
images, and the new one is asked to keep that opinion about the classes both know:

    L = CE(z, y) + λ · KD(z, z_old)

    z        (B, K, H, W)       logits of the network, background first
    z_old    (B, K_old, H, W)   logits of the previous step's network
    y        (B, H, W)          labels visible in this step, 255 = ignore; the mean is over all pixels
    λ                           distillation_weight, 100 because KD is divided by K_old

The paper's temperature of 2 is 1 in the released segmentation codes, as here.

Verified against: g_mib_losses (step_LWF: value and gradient of a complete training step).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from model.data.loading.pixel_batch import PixelBatch
from model.losses.classification import cross_entropy
from model.losses.distillation import knowledge_distillation
from model.methods.base import Context, Weight
from model.methods.pixel.base import PixelMethod
from model.networks.deeplabv3.outputs import PixelOutputs


@dataclass(frozen=True)
class LwF(PixelMethod):
    """The field is the hyper-parameter, with the released default."""

    distillation_weight: Weight = 100.0

    needs_old_model = True

    def losses(
        self,
        context: Context,
        batch: PixelBatch,
        outputs: PixelOutputs,
        old_outputs: PixelOutputs | None,
        targets: Tensor,
    ) -> dict[str, Tensor]:
        losses = {"classification": cross_entropy(outputs.logits, targets)}
        if old_outputs is not None:  # every step but the base step
            distillation = knowledge_distillation(outputs.logits, old_outputs.logits)
            losses["distillation"] = self.distillation_weight * distillation
        return losses
