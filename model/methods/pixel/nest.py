"""NeST: new classifiers are pre-tuned before a step, on top of MiB (``nest``) or PLOP (``nest-plop``).

Xie, Lu, Xiao, Wang, Zhang & Liu, "Early Preparation Pays Off: New Classifier Pre-tuning for Class Incremental Semantic
Segmentation", ECCV 2024.

A new classifier that fits nothing pulls at all features while it learns. Before each step, NeST builds it from the old ones,
channel by channel, starting from how these react to the new class, and tunes the combination for some epochs while the
network stays unchanged. Then the host method learns the step:

    w_k = Σ_c v_kc (M_kc ⊙ W_c)      rows of the new classifier while it is tuned, by MiB's unbiased cross-entropy
    L   = the loss of MiB or PLOP    of the step itself

    W_c    (C,)       row of old class c, background included
    M_kc   (C,)       starts as the mean of P_c [X_d W_cd > 0] over the pixels of class k; P and X are probabilities and features
                      of the old network on a grid of 128 x 128 (``grid``)
    v_k    (K_old,)   starts as the softmax over c of Σ_d M_kcd

The background's row is scaled along. Afterwards all new rows get the mean length of the old ones, and the vector of new biases
that of the vector of old ones (whole vectors, as released). Pre-tuning takes ``pretuning_epochs`` epochs at
``pretuning_factor`` times the step's learning rate: 5 and 1 on VOC (the defaults), 15 and 500 on ADE20K. While it lasts, body
and head are in training mode as released: they use statistics of batches, and their running statistics move.
``freeze_past_classifiers`` is on in the released PLOP scripts for VOC, and off in those of MiB and for ADE20K.

Every pass sees the same augmented crops; the release draws new ones. All other hyper-parameters are those of the hosts
(:mod:`model.methods.pixel.mib`, :mod:`model.methods.pixel.plop`), whose initialisation of new classifiers this replaces.

Verified against: g_nest (reactions, every pre-tuning iteration with gradients, transfer, first iteration of MiB); the hosts by
g_mib_losses and g_plop.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from model.data.loading.pixel_batch import PixelBatch
from model.losses.pooled_distillation import SCALES
from model.methods.base import Context, ParameterGroup, State, StepContext, Trainable, Weight
from model.methods.pixel.base import PixelMethod
from model.methods.pixel.mib import MiB
from model.methods.pixel.nest_classifiers import CombinedClassifiers, Reactions, old_rows, pretune
from model.methods.pixel.plop import PLOP, Scales
from model.networks.deeplabv3.outputs import PixelOutputs
from model.scenario import Step


@dataclass(frozen=True)
class Pretuned(PixelMethod):
    """Pre-tuning, and a host that does everything else; the defaults are those of PASCAL VOC."""

    pretuning_epochs: Annotated[int, Field(ge=1)] = 5
    pretuning_factor: Weight = 1.0
    grid: Annotated[int, Field(ge=1)] = 128
    freeze_past_classifiers: bool = False

    needs_old_model = True

    @property
    def host(self) -> PixelMethod:
        """The method that learns the step."""
        raise NotImplementedError(f"{type(self).__name__} names no host")

    def trainable(self, network: Any, step: Step) -> Trainable:
        past = list(network.cls)[: step.index] if self.freeze_past_classifiers else []
        fixed = {id(parameter) for module in past for parameter in module.parameters()}
        return Trainable((ParameterGroup(tuple(p for p in network.parameters() if id(p) not in fixed)),))

    def before_step(self, context: StepContext[PixelBatch]) -> State:
        if context.old_model is not None:
            classifiers, batches = self.start(context)
            for _ in pretune(
                classifiers,
                context.network,
                context.batches,
                epochs=self.pretuning_epochs,
                batches_per_epoch=batches,
                learning_rate=self.pretuning_factor * context.learning_rate,
                reduce=context.reduce,
            ):
                pass
            classifiers.write(context.network)
        return self.host.before_step(context)

    @torch.no_grad()
    def start(self, context: StepContext[PixelBatch]) -> tuple[CombinedClassifiers, int]:
        """The classifiers that pre-tuning starts from, and the number of batches of a pass."""
        rows, biases = old_rows(context.network)
        reactions, batches = Reactions.none(len(context.step.current), rows), 0
        for batch in context.batches():
            old_outputs = context.old_model(batch.images)
            reactions.observe(old_outputs.pre_logits, old_outputs.logits, batch.labels, rows, self.grid)
            batches += 1
        # As released, biases start at the random value that the background's has in a network just constructed.
        fresh = context.network.cls[-1].bias[0]
        return CombinedClassifiers(rows, biases, reactions.mean(context.reduce), fresh), batches

    def targets(self, context: Context, batch: PixelBatch, old_outputs: PixelOutputs | None) -> Any:
        return self.host.targets(context, batch, old_outputs)

    def losses(
        self,
        context: Context,
        batch: PixelBatch,
        outputs: PixelOutputs,
        old_outputs: PixelOutputs | None,
        targets: Any,
    ) -> dict[str, Tensor]:
        return self.host.losses(context, batch, outputs, old_outputs, targets)

    def after_step(self, context: StepContext[PixelBatch]) -> State:
        return self.host.after_step(context)


@dataclass(frozen=True)
class NeST(Pretuned):
    """On MiB."""

    distillation_weight: Weight = 10.0

    @property
    def host(self) -> MiB:
        return MiB(self.distillation_weight, background_initialisation=False)


@dataclass(frozen=True)
class NestPLOP(Pretuned):
    """On PLOP."""

    freeze_past_classifiers: bool = True
    feature_weight: Weight = 0.01
    logit_weight: Weight = 5e-4
    scales: Scales = SCALES
    min_threshold: Weight = 0.001
    rescale_images: bool = True
    released_entropy: bool = True
    released_median: bool = True

    network_arguments: ClassVar[Mapping[str, tuple[Any, ...]]] = PLOP.network_arguments

    @property
    def host(self) -> PLOP:
        return PLOP(
            feature_weight=self.feature_weight,
            logit_weight=self.logit_weight,
            scales=self.scales,
            min_threshold=self.min_threshold,
            rescale_images=self.rescale_images,
            background_initialisation=False,
            released_entropy=self.released_entropy,
            released_median=self.released_median,
        )
