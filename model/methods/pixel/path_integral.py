"""Path Integral (PI, synaptic intelligence), carried to segmentation.

Zenke, Poole & Ganguli, "Continual Learning Through Synaptic Intelligence", ICML 2017, in the form that the released MiB code
compares with (Cermelli et al., CVPR 2020).

A parameter matters as much as its way through a step contributed to lowering the loss, over the distance that it covered:

    L = CE(z, y) + λ Σ_θ ŝ (θ − θ_old)²
    δ ← δ + g·(θ_prev − θ)                                    at every optimiser step
    s = max(0, δ / ((θ_end − θ_start)² + 1e-20)) + s_old      at the end of the step

    z        (B, K, H, W)   logits of the network, background first
    y        (B, H, W)      labels visible in this step, 255 = ignore; the mean is over all pixels
    θ_old    parameters of the previous step's network; those of a new classifier have none and are free
    θ_prev   parameters one optimiser step earlier; g is the gradient of the class loss, without the penalty
    ŝ        s as the previous step left it, each tensor stretched to 0 … 1
    λ        importance_weight: 500 in the released MiB code (100 in PLOP's, 1000 in SDR's)

Verified against: g_regularisers (pi*: path, hand-over, penalty and its gradient).
"""

from __future__ import annotations

from dataclasses import dataclass

from model.methods.base import Weight
from model.methods.pixel.importance import ImportanceMethod, PathIntegral, Penalty, Statistic


@dataclass(frozen=True)
class PI(ImportanceMethod):
    """The fields are the hyper-parameters, with the released defaults."""

    importance_weight: Weight = 500.0
    normalise: bool = True

    base_method = "finetuning-observed"

    @property
    def statistics(self) -> tuple[Statistic, ...]:
        return (PathIntegral(),)

    @property
    def penalty(self) -> Penalty:
        return Penalty(("path",), self.importance_weight, self.normalise)
