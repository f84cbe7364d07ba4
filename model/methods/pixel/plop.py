"""PLOP: pseudo-labels and local pooled outputs distillation.

Douillard, Chen, Dapogny & Cord, "PLOP: Learning without Forgetting for Continual Semantic Segmentation", CVPR 2021.

Pixels whose labels are hidden get the class that the old network sees there, if it is sure; the others are ignored, and images
with few sure pixels count less. What the networks compute inside is held together at every stage, by the means of strips of
several grids of cells. New classifiers start from the background's, as in MiB:

    L = mean_i ν_b(i) · CE(z_i, ỹ_i) + √(K / N) / M · Σ_m λ_m · mean_b ‖Φ(x_old,m²) − Φ(x_m²)‖

    z        (B, K, H, W)     logits of the network, background first; N of the K channels are new
    ỹ        (B, H, W)        visible labels, pseudo-labels where these hide something, 255 = ignore
    ν        (B,)             share of an image's hidden pixels that have a pseudo-label
    x_m      M = 6 maps: the four stages of the backbone before their last activation, the output of the head, and the coarse
             logits, new channels added to the background
    Φ        means over width and over height in the cells of 1, 4 and 16 cells a map
    λ_m      feature_weight, and logit_weight for the logits: 0.01 and 5e-4 on VOC (the defaults), 1e-3 and 1e-5 on ADE20K

A pixel is certain if its uncertainty is below a threshold of the predicted class: the median over the background pixels of
this step's images, at least ``min_threshold``. The released code computes both in ways that differ from the paper's words:

    ``released_entropy``   the mean over classes instead of the sum, and divided by log K besides: at most 1 / (K_old · log K)
    ``released_median``    the first bin of a histogram that alone holds about half of everything

Together they let nearly everything pass on ADE20K. The published numbers contain both; set to false, they follow the paper.

Verified against: g_plop (thresholds, pseudo-labels, both losses and gradients of complete training steps).
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
from model.losses.classification import cross_entropy
from model.losses.entropy_pseudo_labels import (
    class_histograms,
    histogram_median,
    mean_entropy,
    normalised_entropy,
    pseudo_labels,
    released_median,
)
from model.losses.pooled_distillation import SCALES, fold_new_channels, local_pod
from model.methods.base import Context, State, StepContext, Weight
from model.methods.pixel.base import PixelMethod
from model.networks.deeplabv3.initialisation import initialise_from_background
from model.networks.deeplabv3.outputs import PixelOutputs
from model.scenario import Step

Scales = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]


@dataclass(frozen=True)
class PlopTargets:
    """Labels with pseudo-labels (B, H, W), and the weight of each image's classification loss (B,)."""

    labels: Tensor
    image_weights: Tensor


@dataclass(frozen=True)
class PLOP(PixelMethod):
    """The fields are the hyper-parameters, with the released defaults for PASCAL VOC."""

    feature_weight: Weight = 0.01
    logit_weight: Weight = 5e-4
    scales: Scales = SCALES
    min_threshold: Weight = 0.001
    rescale_images: bool = True
    background_initialisation: bool = True
    released_entropy: bool = True
    released_median: bool = True

    needs_old_model = True
    network_arguments: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        **PixelMethod.network_arguments,
        "keep_stages": (True,),
    }

    def grow(self, network: Any, step: Step) -> None:
        network.grow(len(step.current))
        if self.background_initialisation:
            initialise_from_background(network.cls)

    def uncertainty(self, old_logits: Tensor, channels: int) -> Tensor:
        """(B, H, W) of the old network's logits; ``channels`` is K, the new classes included."""
        if self.released_entropy:
            return mean_entropy(old_logits) / math.log(channels)
        return normalised_entropy(old_logits)

    @torch.no_grad()
    def before_step(self, context: StepContext[PixelBatch]) -> State:
        if context.old_model is None:
            return {}
        channels = 1 + len(context.step.seen)
        total = torch.zeros(0)
        for batch in context.batches():
            logits = context.old_model(batch.images).logits
            uncertainty = self.uncertainty(logits, channels)
            found = class_histograms(uncertainty, logits.argmax(dim=1), batch.labels == 0, channels)
            total = found if total.numel() == 0 else total + found
        return {"thresholds": self.thresholds(total).to(context.device)}

    def thresholds(self, histograms: Tensor) -> Tensor:
        """(K,) from the table of :func:`model.losses.entropy_pseudo_labels.class_histograms`; NaN stays NaN."""
        median = released_median if self.released_median else histogram_median
        medians = torch.tensor([median(row) for row in histograms.cpu()])
        return medians.clamp(min=self.min_threshold)

    def targets(self, context: Context, batch: PixelBatch, old_outputs: PixelOutputs | None) -> PlopTargets:
        if old_outputs is None:
            return PlopTargets(batch.labels, torch.ones(len(batch.labels), device=batch.labels.device))
        logits = old_outputs.logits
        uncertainty = self.uncertainty(logits, 1 + len(context.step.seen))
        labels, share = pseudo_labels(
            batch.labels, logits.argmax(dim=1), uncertainty, context.state["thresholds"], logits.shape[1]
        )
        return PlopTargets(labels, share if self.rescale_images else torch.ones_like(share))

    def losses(
        self,
        context: Context,
        batch: PixelBatch,
        outputs: PixelOutputs,
        old_outputs: PixelOutputs | None,
        targets: PlopTargets,
    ) -> dict[str, Tensor]:
        entropy = cross_entropy(outputs.logits, targets.labels, "none")
        losses = {"classification": (targets.image_weights.view(-1, 1, 1) * entropy).mean()}
        if old_outputs is not None:
            losses["distillation"] = self.distillation(outputs, old_outputs)
        return losses

    def after_step(self, context: StepContext[PixelBatch]) -> State:
        """Nothing is passed on: the next step measures its own thresholds."""
        return {}

    def distillation(self, outputs: PixelOutputs, old_outputs: PixelOutputs) -> Tensor:
        """Local POD over all maps, weighted."""
        assert outputs.coarse_logits is not None and old_outputs.coarse_logits is not None
        channels, old_channels = outputs.coarse_logits.shape[1], old_outputs.coarse_logits.shape[1]
        maps = [*zip(outputs.stages, old_outputs.stages, strict=True), (outputs.pre_logits, old_outputs.pre_logits)]
        terms = [self.feature_weight * local_pod(new, old, self.scales) for new, old in maps]
        folded = fold_new_channels(outputs.coarse_logits, old_channels)
        terms.append(self.logit_weight * local_pod(folded, old_outputs.coarse_logits, self.scales))
        return torch.stack(terms).mean() * math.sqrt(channels / (channels - old_channels))
