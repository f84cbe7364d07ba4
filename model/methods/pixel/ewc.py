"""Elastic Weight Consolidation (EWC), carried to segmentation.

Kirkpatrick et al., "Overcoming catastrophic forgetting in neural networks", PNAS 2017, in the form that the released MiB code
compares with (Cermelli et al., CVPR 2020).

Parameters that mattered for earlier steps, measured by their squared gradients, are held where they were:

    L = CE(z, y) + λ Σ_θ f̂ (θ − θ_old)²          f ← a·g² + (1 − a)·f     at every optimiser step

    z        (B, K, H, W)   logits of the network, background first
    y        (B, H, W)      labels visible in this step, 255 = ignore; the mean is over all pixels
    θ_old    parameters of the previous step's network; those of a new classifier have none and are free
    g        gradient of the class loss with respect to θ, without the penalty
    f̂        f as the previous step left it, each tensor stretched to 0 … 1
    λ        importance_weight: 500 in the released MiB code (100 in PLOP's, 1000 in SDR's)
    a        newest_weight: 0.9, so that f follows the newest gradients (released code)

There is no factor 1/2, and no pass over the data after training: f is gathered online. That takes a base step that was
observed while it was trained, which is fine-tuning's with statistics (``finetuning-observed``).

Verified against: g_regularisers (ewc*: Fisher, hand-over, penalty and its gradient).
"""

from __future__ import annotations

from dataclasses import dataclass

from model.methods.base import Weight
from model.methods.pixel.importance import Fisher, Fraction, ImportanceMethod, Penalty, Statistic


@dataclass(frozen=True)
class EWC(ImportanceMethod):
    """The fields are the hyper-parameters, with the released defaults."""

    importance_weight: Weight = 500.0
    newest_weight: Fraction = 0.9
    normalise: bool = True

    base_method = "finetuning-observed"
    base_fields = ("newest_weight",)

    @property
    def statistics(self) -> tuple[Statistic, ...]:
        return (Fisher(self.newest_weight),)

    @property
    def penalty(self) -> Penalty:
        return Penalty(("fisher",), self.importance_weight, self.normalise)
