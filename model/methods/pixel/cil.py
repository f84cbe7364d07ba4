"""CIL: class-incremental learning with distillation weighted by entropy.

Klingner, Bär, Donn & Fingscheidt, "Class-Incremental Learning for Semantic Segmentation Re-Using Neither Old Data Nor Old
Labels", ITSC 2020. Baseline in Michieli & Zanuttigh, SDR, CVPR 2021, whose frame this is.

Where no new class is labelled, the network keeps what the old one thought, the more so the less sure that one was:

    L = CE(z, y) + μ / M · Σ_{i: y_i = 0} (1 + λ · H₂(p_i)) · −Σ_k p_ik · log softmax(z_i)_k

    z        (B, K, H, W)    logits of the network, background first
    y        (B, H, W)       labels visible in this step, 255 = ignore; the mean of CE is over all pixels
    p        (B, K, H, W)    softmax of the old network's logits, padded with a logit 0 for every new class
    H₂                       entropy in bits
    M                        pixels of the sum: background and ignored ones
    λ, μ                     entropy_weight; distillation_weight, 1 in the released code

``released_product`` is the code of SDR to the letter: + Σ p · softmax(z) in place of − Σ p · log softmax(z), which drives the
networks apart when it is minimised. Besides, its preset compares where it should assign, so that the term is off unless it is
switched on by hand. Which of the published numbers were made with which form is uncertain: those of the sequential and the
disjoint setting are above fine-tuning, the overlapped ones and those of ADE20K are about equal to it.

Verified against: g_cil (both readings, values and gradients).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from model.data.loading.pixel_batch import PixelBatch
from model.losses.classification import cross_entropy
from model.losses.entropy_weighted_distillation import entropy_weighted_distillation
from model.methods.base import Context, Weight
from model.methods.pixel.base import PixelMethod
from model.networks.deeplabv3.outputs import PixelOutputs


@dataclass(frozen=True)
class CIL(PixelMethod):
    """The fields are the hyper-parameters; the defaults are the paper's formula with the weights of the released code."""

    distillation_weight: Weight = 1.0
    entropy_weight: Weight = 1.0
    weighted_mean: bool = False
    released_product: bool = False

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
        if old_outputs is not None:
            distillation = entropy_weighted_distillation(
                outputs.logits,
                old_outputs.logits,
                targets,
                self.entropy_weight,
                released_product=self.released_product,
                weighted_mean=self.weighted_mean,
            )
            losses["distillation"] = self.distillation_weight * distillation
        return losses
