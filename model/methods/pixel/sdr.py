"""SDR: sparse and disentangled representations.

Michieli & Zanuttigh, "Continual Semantic Segmentation via Repulsion-Attraction of Sparse and Disentangled Latent
Representations", CVPR 2021.

Every class has a prototype, the mean of the features of all its pixels since training began. Mean features of old classes are to
meet their prototypes again, features gather around the prototype of their class, mean features of different classes repel each
other, and the channels that describe a pixel are few. Labels and outputs are those of MiB:

    L = CE(q, y) + λ · KD(q', z_old) + λ_m · L_m + λ_a · L_a + λ_r · L_r + λ_s · L_s

    L_m = mean_{c old} mean (m̂_c − p_c)²            L_a = Σ_c w_c · mean_{i ∈ c} (f_i − p_c)²
    L_r = mean_{a ≠ b} 1 / ‖m_a − m_b‖              L_s = mean_i Σ_j exp(f̄_ij) / Σ_j f̄_ij

    q, q'    softmax with old classes, or new classes, in the background, see MiB
    f        (B, C, h, w)    output of the backbone; labels are reduced to h x w
    p, n     (K, C), (K,)    prototypes and how many pixels they are means of; the present batch is included
    m        (K, C)          means of the batch by label; m̂ of old classes where the old network sees them behind a
                             background label, or by label if labels of old classes are kept (setting sequential)
    f̄        features over the largest entry of their class in the batch
    λ …      distillation_weight, matching_weight, attraction_weight, repulsion_weight, sparsity_weight

A weight of 0 leaves a term out, as in the ablation of the paper. The background has a prototype where it is known to be nothing
else: in the sequential setting, and at the base step of the disjoint one. The base step is fine-tuning that counts prototypes.

The published numbers contain what the release does differently, each with a switch:

    ``released_layout``        features of a class are read in a wrong order, see model/losses/class_prototypes.py
    ``released_background``    the smallest label that occurs is left out where the background is meant to be
    ``released_attraction``    w of the j-th of n classes is n^-(n-j+1) instead of 1/n: the last class dominates
    ``released_matching``      the mean square given above, where the paper has the norm ‖m̂_c − p_c‖

The released preset has MiB's unbiased losses (``unbiased_classification``, ``unbiased_distillation``) but not its initialisation;
with ``background_initialisation`` as well it is "SDR + MiB". Uncertain: whether the paper's plain SDR had the unbiased losses.

Verified against: g_sdr (prototypes, all terms and their options; values and gradients of complete training steps).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from model.data.loading.pixel_batch import PixelBatch
from model.losses.background_losses import background_losses
from model.losses.class_prototypes import (
    Regions,
    Repulsion,
    attraction,
    class_sums,
    present_classes,
    prototype_matching,
    repulsion,
    running_prototypes,
)
from model.losses.classification import cross_entropy, unbiased_cross_entropy
from model.losses.distillation import knowledge_distillation, unbiased_knowledge_distillation
from model.losses.precision import at_least_single
from model.losses.reduced_labels import labels_at
from model.losses.sparsity import Form, Normalisation, Shrinking, sparsity
from model.methods.base import Context, Weight
from model.methods.pixel.base import PixelMethod
from model.networks.deeplabv3.initialisation import initialise_from_background
from model.networks.deeplabv3.outputs import PixelOutputs
from model.scenario import Step


def visible_classes(
    labels: Tensor | Regions, setting: str, step: int, *, released_background: bool = True
) -> list[int]:
    """Labels of a batch whose features enter the prototypes.

    Args:
        labels: (B, h, w), 255 = ignore.
        setting: overlapped, disjoint, sequential or partition; in the last one old classes are hidden as in the disjoint one.
        step: its number, 0 = base step.
        released_background: leave out the smallest label instead of label 0 where the background is not to be counted.
    """
    if setting == "sequential" or (setting != "overlapped" and step == 0):
        return present_classes(labels)
    return present_classes(labels, skip_first=released_background, skip_background=not released_background)


@dataclass(frozen=True)
class SDR(PixelMethod):
    """The fields are the hyper-parameters, with the released defaults."""

    distillation_weight: Weight = 100.0
    matching_weight: Weight = 1e-2
    attraction_weight: Weight = 1e-3
    repulsion_weight: Weight = 1e-3
    sparsity_weight: Weight = 1e-3
    unbiased_classification: bool = True
    unbiased_distillation: bool = True
    background_initialisation: bool = False
    cluster_background: bool = True
    unit_features: bool = False
    matching_by_pixel: bool = False
    repulsion_form: Repulsion = "means"
    sparsity_normalisation: Normalisation = "class-max"
    sparsity_shrinking: Shrinking = "exponential"
    sparsity_form: Form = "ratio"
    released_layout: bool = True
    released_background: bool = True
    released_attraction: bool = True
    released_matching: bool = True

    base_method = None
    base_fields = ("released_layout", "released_background")
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
        features, labels = outputs.body, labels_at(targets, outputs.body)
        regions = Regions.of(labels)
        self.update_prototypes(context, features, regions)
        if old_outputs is None:
            return {"classification": cross_entropy(outputs.logits, targets)}
        losses = self.label_losses(outputs, old_outputs, targets)
        if self.matching_weight:
            places = self.old_class_labels(context, labels, old_outputs)
            losses["matching"] = self.matching_weight * self.matching(context, features, places)
        return losses | self.clustering(context, features, labels, regions)

    def label_losses(self, outputs: PixelOutputs, old_outputs: PixelOutputs, targets: Tensor) -> dict[str, Tensor]:
        """The terms that compare logits with labels and with the old logits."""
        if self.unbiased_classification and self.unbiased_distillation and self.distillation_weight:
            compact = outputs.compact_logits, old_outputs.compact_logits
            classification, distillation = background_losses(*compact, targets)
            return {"classification": classification, "distillation": self.distillation_weight * distillation}
        losses = {
            "classification": unbiased_cross_entropy(outputs.logits, targets, old_outputs.logits.shape[1])
            if self.unbiased_classification
            else cross_entropy(outputs.logits, targets)
        }
        if self.distillation_weight:
            distil = unbiased_knowledge_distillation if self.unbiased_distillation else knowledge_distillation
            losses["distillation"] = self.distillation_weight * distil(outputs.logits, old_outputs.logits)
        return losses

    @torch.no_grad()
    def update_prototypes(self, context: Context, features: Tensor, labels: Tensor | Regions) -> None:
        """Add a batch, of all processes, to the means; new classes get rows of zeros first."""
        features, state = at_least_single(features), context.state
        channels = 1 + len(context.step.seen)
        prototypes = features.new_zeros(channels, features.shape[1])
        counts = features.new_zeros(channels, dtype=torch.float64)
        if "prototypes" in state:
            known = len(state["counts"])
            prototypes[:known], counts[:known] = state["prototypes"], state["counts"]
        classes = visible_classes(
            labels, context.setting, context.step.index, released_background=self.released_background
        )
        sums, found = class_sums(features, labels, classes, channels, released_layout=self.released_layout)
        sums, found = context.reduce(sums, "sum"), context.reduce(found, "sum")
        state["prototypes"], state["counts"] = running_prototypes(prototypes, counts, sums, found)

    def old_class_labels(self, context: Context, labels: Tensor, old_outputs: PixelOutputs) -> Tensor:
        """(B, h, w) old classes, 0 where none is known or assumed."""
        if context.setting == "sequential":
            return torch.where(labels <= len(context.step.past), labels, 0)
        return torch.where(labels == 0, labels_at(old_outputs.logits.argmax(dim=1), labels), 0)

    def matching(self, context: Context, features: Tensor, places: Tensor) -> Tensor:
        """Distance of old classes from their prototypes."""
        return prototype_matching(
            features,
            places,
            context.state["prototypes"],
            each_pixel=self.matching_by_pixel,
            norm=not self.released_matching,
            released_layout=self.released_layout,
        )

    def clustering(self, context: Context, features: Tensor, labels: Tensor, regions: Regions) -> dict[str, Tensor]:
        """The terms between the features of a batch: attraction, repulsion and sparsity, as far as they have a weight."""
        skip = not self.cluster_background
        classes = present_classes(
            regions, skip_first=skip and self.released_background, skip_background=skip and not self.released_background
        )
        prototypes, common = context.state["prototypes"], {"released_layout": self.released_layout}
        common["unit"] = self.unit_features
        losses = {}
        if self.attraction_weight:
            attracted = attraction(
                features, regions, prototypes, classes, released_division=self.released_attraction, **common
            )
            losses["attraction"] = self.attraction_weight * attracted
        if self.repulsion_weight:
            repelled = repulsion(features, regions, prototypes, classes, form=self.repulsion_form, **common)
            losses["repulsion"] = self.repulsion_weight * repelled
        if self.sparsity_weight:
            sparse = sparsity(
                features,
                labels,
                normalisation=self.sparsity_normalisation,
                shrinking=self.sparsity_shrinking,
                form=self.sparsity_form,
            )
            losses["sparsity"] = self.sparsity_weight * sparse
        return losses
