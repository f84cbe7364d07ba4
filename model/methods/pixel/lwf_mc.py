"""Learning without Forgetting for multi-class classifiers (LwF-MC), carried to segmentation.

Rebuffi et al., "iCaRL: Incremental Classifier and Representation Learning", CVPR 2017 (its network without exemplars).
Baseline in Cermelli et al., MiB, CVPR 2020.

Every channel, the background included, is a binary classifier of its own. New classes learn from labels; old channels are
asked to keep the sigmoid that the previous step's network gave them, while the labels pull at them as well:

    L = BCE(z, y) + λ · Σ_{k < K_old} BCE(z_k, σ(z_old,k))

    z        (B, K, H, W)       logits of the network, background first
    z_old    (B, K_old, H, W)   logits of the previous step's network
    y        (B, H, W)          labels visible in this step, 255 = ignore
    BCE                         summed over channels, mean over all pixels
    λ                           distillation_weight

That is the ``combined`` form, the released default. In the ``disjoint`` one every channel has one target: an old channel its old
sigmoid, a new channel its label; there is no weight to choose, and ``hard_background`` gives the background its label back:

    L = Σ_k BCE(z_k, σ(z_old,k)) over old channels + Σ_k BCE(z_k, [y = k]) over new ones

The base step already trains with BCE and is therefore not shared with the softmax methods. The decision is the largest
logit, which is also the largest sigmoid.

Verified against: g_mib_losses (step_LWF-MC: value and gradient of a complete training step; the disjoint form alone).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from model.data.loading.pixel_batch import PixelBatch
from model.losses.classification import binary_cross_entropy
from model.losses.distillation import replaced_target_cross_entropy, sigmoid_distillation
from model.methods.base import Context, Weight
from model.methods.pixel.base import PixelMethod
from model.networks.deeplabv3.outputs import PixelOutputs


@dataclass(frozen=True)
class LwFMC(PixelMethod):
    """The fields are the hyper-parameters, with the released defaults."""

    distillation_weight: Weight = 10.0
    form: Literal["combined", "disjoint"] = "combined"
    hard_background: bool = False

    base_method = None
    base_fields = ()
    needs_old_model = True

    def losses(
        self,
        context: Context,
        batch: PixelBatch,
        outputs: PixelOutputs,
        old_outputs: PixelOutputs | None,
        targets: Tensor,
    ) -> dict[str, Tensor]:
        if old_outputs is not None and self.form == "disjoint":
            replaced = replaced_target_cross_entropy(
                outputs.logits, old_outputs.logits, targets, hard_background=self.hard_background
            )
            return {"classification": replaced}
        losses = {"classification": binary_cross_entropy(outputs.logits, targets)}
        if old_outputs is not None:
            distillation = sigmoid_distillation(outputs.logits, old_outputs.logits)
            losses["distillation"] = self.distillation_weight * distillation
        return losses
