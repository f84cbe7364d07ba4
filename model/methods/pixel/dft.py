"""Direct fine-tuning (DFT), and DFT* with its three switches.

Zhang et al., "Revisiting Continual Semantic Segmentation with Pre-trained Vision Models", arXiv 2508.04267, 2025.

Fine-tuning forgets mainly because its classifiers drift away from features that have hardly changed. DFT* therefore trains, after
the base step, only classifiers of classes that are not learnt yet: backbone and head are frozen, and so are earlier
classifiers. Classifiers of all later steps exist from the base step on and learn there what their classes are not:

    L = CE(z, y)

    z   (B, K, H, W)   logits, background first; with preallocation K is the number of channels after the *last* step
    y   (B, H, W)      labels visible in this step, 255 = ignore; the mean is over all pixels

The switches, all off in ``dft`` and all on in ``dft-star``:

    ``freeze_features``          from step 1 on backbone and head are frozen, and in evaluation mode
    ``freeze_past_classifiers``  from step 1 on classifiers of earlier steps are frozen, the background's row included
    ``preallocate``              (dft-star) one classifier for every step of the scenario, trained from the base step until
                                 frozen; the base step then knows how many classes each later step brings

Without preallocation a new classifier starts with random weights. The decision is the largest logit of the classes learnt so far;
the released one may also predict a class that has not been learnt yet, which its evaluation cannot count.

Verified against: g_dft (whole steps of a small network: losses, gradients, weights and running statistics after every step).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from model.data.loading.pixel_batch import PixelBatch
from model.losses.classification import cross_entropy
from model.methods.base import Context, ParameterGroup, Trainable
from model.methods.pixel.base import PixelMethod
from model.networks.deeplabv3.outputs import PixelOutputs
from model.scenario import Step


@dataclass(frozen=True)
class DFT(PixelMethod):
    """The fields are the switches that need no other base step than fine-tuning's."""

    freeze_features: bool = False
    freeze_past_classifiers: bool = False

    def trainable(self, network: Any, step: Step) -> Trainable:
        frozen = (network.backbone, network.aspp) if step.index and self.freeze_features else ()
        past = list(network.cls)[: step.index] if self.freeze_past_classifiers else []
        fixed = {id(parameter) for module in (*frozen, *past) for parameter in module.parameters()}
        learning = tuple(parameter for parameter in network.parameters() if id(parameter) not in fixed)
        return Trainable((ParameterGroup(learning),), frozen)

    def losses(
        self,
        context: Context,
        batch: PixelBatch,
        outputs: PixelOutputs,
        old_outputs: PixelOutputs | None,
        targets: Tensor,
    ) -> dict[str, Tensor]:
        return {"classification": cross_entropy(outputs.logits, targets)}


@dataclass(frozen=True)
class DFTStar(DFT):
    """DFT with all switches on; each can be turned off."""

    freeze_features: bool = True
    freeze_past_classifiers: bool = True
    preallocate: bool = True

    base_method: ClassVar[str | None] = None
    base_fields = ("preallocate",)

    @property
    def needs_future(self) -> bool:
        return self.preallocate

    def grow(self, network: Any, step: Step) -> None:
        if len(network.classes_per_step) <= step.index:
            network.grow(len(step.current))

    def predict(self, outputs: PixelOutputs, step: Step) -> Tensor:
        """Label map (B, H, W) of positions: the channel with the largest logit of those learnt so far."""
        return outputs.logits[:, : 1 + len(step.seen)].argmax(dim=1)
