"""SSUL: semantic segmentation with unknown label.

Cha, Kim, Yoo & Moon, "SSUL: Semantic Segmentation with Unknown Label for Exemplar-based Class-Incremental Learning", NeurIPS
2021.

What is salient in an image and has no label is *unknown*, a class of its own: neither background nor anything learnt yet. The
feature extractor is frozen after the base step, each step adds a head that starts as a copy of the unknown one, and the old
network's confident predictions are labels. All channels are binary classifiers:

    L = mean over valid pixels of Σ_k BCE(z_k, [ỹ = k])

    z   (B, 2 + K, H, W)   logits: unknown, background, then the classes in learning order
    ỹ   (B, H, W)          the visible label; the old network's class where none is visible, its largest sigmoid is that
                           class's and at least score_threshold; else unknown or background; 255 = ignore

Unlabelled pixels are unknown where a saliency map, read from a file of the dataset, shows an object (``unknown: saliency``, VOC),
or everywhere (``unknown: everything``, ADE20K, where the release has no saliency and no background). After the base step only
the newest head, the unknown head and, very slowly, the background head train; all normalisation is frozen. At test time the
sigmoid of unknown is added to that of the background, and the largest one decides. With a memory (SSUL-M) half of every
batch are exemplars with the labels of all classes so far. A released defect has a switch:

    ``released_memory_labels``   labels of exemplars are not shifted by the unknown channel: their background is read as
                                 unknown and class k as class k − 1

Verified against: g_ssul (pseudo-labels, loss and gradient of training steps; exemplars), the official list of names and shapes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from model.data.loading.pixel_batch import PixelBatch
from model.data.prepared.labels import IGNORE
from model.losses.classification import binary_cross_entropy
from model.losses.score_pseudo_labels import score_pseudo_labels
from model.methods.base import Context, ParameterGroup, Trainable, Weight
from model.methods.pixel.base import PixelMethod
from model.networks.deeplabv3.outputs import PixelOutputs
from model.networks.deeplabv3.ssul_network import BACKGROUND, UNKNOWN, copy_head
from model.networks.layers import normalisations
from model.scenario import Step

FIRST_CLASS = BACKGROUND + 1
"""Channel of the first class learnt."""


@dataclass(frozen=True)
class SSUL(PixelMethod):
    """The fields are the hyper-parameters, with the released defaults for PASCAL VOC."""

    score_threshold: Annotated[float, Field(ge=0, le=1)] = 0.7
    unknown: Literal["saliency", "everything"] = "saliency"
    backbone_factor: Weight = 0.1
    background_factor: Weight = 1e-4

    base_method: ClassVar[str | None] = None
    base_fields = ("unknown", "backbone_factor")
    needs_old_model = True
    freezes_batch_norm = True
    network_arguments: ClassVar[Mapping[str, tuple[Any, ...]]] = {"name": ("deeplabv3-ssul",)}

    @property
    def needs_saliency(self) -> bool:
        return self.unknown == "saliency"

    def grow(self, network: Any, step: Step) -> None:
        network.grow(len(step.current))
        copy_head(network.heads[UNKNOWN], network.heads[-1])

    def trainable(self, network: Any, step: Step) -> Trainable:
        if step.index == 0:
            backbone = ParameterGroup(tuple(network.backbone.parameters()), self.backbone_factor)
            return Trainable((backbone, ParameterGroup(tuple(network.classifier.parameters()))))
        frozen = normalisations(network)
        fixed = {id(parameter) for module in frozen for parameter in module.parameters()}
        heads = ((UNKNOWN, 1.0), (BACKGROUND, self.background_factor), (-1, 1.0))
        groups = tuple(
            ParameterGroup(tuple(p for p in network.heads[place].parameters() if id(p) not in fixed), factor)
            for place, factor in heads
        )
        return Trainable(groups, frozen)

    def targets(self, context: Context, batch: PixelBatch, old_outputs: PixelOutputs | None) -> Tensor:
        labels = self.shifted_labels(batch)
        if old_outputs is None:
            return labels
        return score_pseudo_labels(labels, old_outputs.logits.sigmoid(), FIRST_CLASS, self.score_threshold)

    def shifted_labels(self, batch: PixelBatch) -> Tensor:
        """Visible labels (B, H, W) as channels, unlabelled pixels parted into unknown and background."""
        return channel_labels(batch.labels, batch.saliency if self.unknown == "saliency" else None)

    def losses(
        self,
        context: Context,
        batch: PixelBatch,
        outputs: PixelOutputs,
        old_outputs: PixelOutputs | None,
        targets: Tensor,
    ) -> dict[str, Tensor]:
        return {"classification": binary_cross_entropy(outputs.logits, targets, "mean-valid")}

    def predict(self, outputs: PixelOutputs, step: Step) -> Tensor:
        """Label map (B, H, W): the largest sigmoid, that of the background with that of unknown added."""
        scores = outputs.logits.sigmoid()
        background = scores[:, UNKNOWN] + scores[:, BACKGROUND]
        return torch.cat([background.unsqueeze(1), scores[:, FIRST_CLASS:]], dim=1).argmax(dim=1)


@dataclass(frozen=True)
class SSULM(SSUL):
    """SSUL-M: half of every batch are exemplars (100 images on VOC, 300 on ADE20K in the paper, class-balanced)."""

    released_memory_labels: bool = True

    base_method = "ssul"
    memory_policy = "annotations"
    replay_mixing = "half-batch"

    def shifted_labels(self, batch: PixelBatch) -> Tensor:
        labels = super().shifted_labels(batch)
        if self.released_memory_labels:
            labels = torch.where(batch.from_memory.view(-1, 1, 1), batch.labels, labels)
        return labels


def channel_labels(labels: Tensor, saliency: Tensor | None) -> Tensor:
    """Positions (0 = nothing labelled, k = k-th class) to channels (unknown, background, classes); 255 stays.

    Args:
        labels: (B, H, W).
        saliency: (B, H, W) bool: where unlabelled pixels are unknown; None: everywhere.
    """
    shifted = torch.where(labels == IGNORE, labels, labels + BACKGROUND)
    unlabelled = labels == 0
    return torch.where(unlabelled if saliency is None else unlabelled & saliency, UNKNOWN, shifted)
