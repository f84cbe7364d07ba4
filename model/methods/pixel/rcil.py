"""RCIL: representation compensation networks, with pooled cube distillation.

Zhang, Xiao, Liu, Chen & Cheng, "Representation Compensation Networks for Continual Semantic Segmentation", CVPR 2022.

Every 3x3 convolution of the backbone and the parallel convolutions of the head have a twin. Before a step both twins are merged
into the first one, which is frozen and carries what was learnt, while the second one continues to learn; in training a
channel takes one of them or their mean by chance, at test always the mean. Intermediate maps are held together by local
averages of their energy over space and over neighbouring channels. Labels are read, and outputs distilled, as in MiB:

    L = CE(q, y) + λ · KD(q', z_old) + √(K / N) · (1/M Σ_m φ_m S(x_m) + 1/(M-1) Σ_{m<M} φ'_m C(x_m))

    CE(q, y), KD(q', z_old)   the losses of MiB (:mod:`model.methods.pixel.mib`); λ is distillation_weight
    x_m      M = 6 maps: the four stages of the backbone, activated, the output of the head, and the coarse logits, new channels
             added to the background; C leaves the logits out
    S        mean over six sizes of windows of ‖avg_{k×k}(x_old,m² - x_m²)‖, C the same with averages of three channels
    φ, φ'    feature_weight, and logit_weight for the last map of either list: 0.01 and 5e-4 on VOC (the defaults), 5e-6 and
             5e-7 on ADE20K
    K, N     channels in all, new ones

The network that starts a step is not the old one: the merged branch alone would compute what the old network did, but it is
averaged with the second branch once more. The old model is the network before the merge. A released choice has a switch:

    ``released_initialisation``   new classifiers take the background's weights, but their biases stay random and that of the
                                  background is not lowered; false is the full background initialisation of MiB

Verified against: g_rcil (twin blocks and heads: training, gradients, running statistics, several merges; pooled cube
distillation; loss and gradients of a complete training step).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from model.data.loading.pixel_batch import PixelBatch
from model.losses.background_losses import background_losses
from model.losses.classification import cross_entropy
from model.losses.pooled_cube import WINDOWS, channel_cube_distance, energy_difference, spatial_cube_distance
from model.losses.pooled_distillation import fold_new_channels
from model.methods.base import Context, ParameterGroup, Trainable, Weight
from model.methods.pixel.base import PixelMethod
from model.networks.deeplabv3.initialisation import initialise_from_background, initialise_weights_from_background
from model.networks.deeplabv3.outputs import PixelOutputs
from model.scenario import Step

Windows = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]


@dataclass(frozen=True)
class RCIL(PixelMethod):
    """The fields are the hyper-parameters, with the released defaults for PASCAL VOC."""

    distillation_weight: Weight = 100.0
    feature_weight: Weight = 0.01
    logit_weight: Weight = 5e-4
    windows: Windows = WINDOWS
    released_initialisation: bool = True

    needs_old_model = True
    network_arguments: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        **PixelMethod.network_arguments,
        "name": ("deeplabv3-rcil",),
    }

    def grow(self, network: Any, step: Step) -> None:
        network.merge()
        network.grow(len(step.current))
        if self.released_initialisation:
            initialise_weights_from_background(network.cls)
        else:
            initialise_from_background(network.cls)

    def trainable(self, network: Any, step: Step) -> Trainable:
        """Everything but the branches that others were merged into."""
        if step.index == 0:
            return super().trainable(network, step)
        norms = tuple(pair.norm for pair in network.twins)
        merged = (*norms, *(conv for pair in network.twins for conv in pair.convs))
        fixed = {id(parameter) for module in merged for parameter in module.parameters()}
        learning = tuple(parameter for parameter in network.parameters() if id(parameter) not in fixed)
        return Trainable((ParameterGroup(learning),), norms)

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
        return {
            "classification": classification,
            "output-distillation": self.distillation_weight * distillation,
            "feature-distillation": self.pooled_cube_distillation(outputs, old_outputs),
        }

    def pooled_cube_distillation(self, outputs: PixelOutputs, old_outputs: PixelOutputs) -> Tensor:
        """Spatial and channel part over all maps, weighted."""
        coarse, old_coarse = outputs.coarse_logits, old_outputs.coarse_logits
        assert coarse is not None and old_coarse is not None
        channels, old_channels = coarse.shape[1], old_coarse.shape[1]
        new = (*outputs.stages, outputs.pre_logits, fold_new_channels(coarse, old_channels))
        old = (*old_outputs.stages, old_outputs.pre_logits, old_coarse)
        differences = [energy_difference(ours, theirs) for ours, theirs in zip(new, old, strict=True)]
        spatial = self.weighted([spatial_cube_distance(difference, self.windows) for difference in differences])
        channel = self.weighted([channel_cube_distance(difference) for difference in differences[:-1]])
        return math.sqrt(channels / (channels - old_channels)) * (spatial + channel)

    def weighted(self, distances: list[Tensor]) -> Tensor:
        """Mean of the distances of all maps, the last of which has a weight of its own."""
        *others, last = distances
        return torch.stack([*(self.feature_weight * value for value in others), self.logit_weight * last]).mean()
