"""Riemannian Walk (RW), carried to segmentation.

Chaudhry, Dokania, Ajanthan & Torr, "Riemannian Walk for Incremental Learning", ECCV 2018, in the form that the released MiB
code compares with (Cermelli et al., CVPR 2020).

A parameter matters by its Fisher information, as in EWC, and by how much its way lowered the loss for the change of the
network's distribution that it caused:

    L = CE(z, y) + λ Σ_θ (f̂ + ŝ) (θ − θ_old)²
    s ← s + g·(θ_last − θ) / (½ f (θ − θ_last)² + 1e-8)       every ``interval`` optimiser steps
    f ← a·g² + (1 − a)·f                                      then, at every optimiser step

    z        (B, K, H, W)   logits of the network, background first
    y        (B, H, W)      labels visible in this step, 255 = ignore; the mean is over all pixels
    θ_old    parameters of the previous step's network; those of a new classifier have none and are free
    θ_last   parameters when s was last changed; g is the gradient of the class loss, without the penalty
    f̂, ŝ     f and s as the previous step left them, each tensor stretched to 0 … 1; negative s counts as 0, and what a
             step leaves is averaged half and half with what it was given
    λ        importance_weight: 100 in the released MiB and PLOP codes (1000 in SDR's)
    a        newest_weight, 0.9

Verified against: g_regularisers (rw*: Fisher, score, hand-over, penalty and its gradient).
"""

from __future__ import annotations

from dataclasses import dataclass

from model.methods.base import Weight
from model.methods.pixel.importance import Fisher, Fraction, ImportanceMethod, Interval, Penalty, Statistic, Walk


@dataclass(frozen=True)
class RW(ImportanceMethod):
    """The fields are the hyper-parameters, with the released defaults."""

    importance_weight: Weight = 100.0
    newest_weight: Fraction = 0.9
    interval: Interval = 10
    normalise: bool = True

    base_method = "finetuning-observed"
    base_fields = ("newest_weight", "interval")

    @property
    def statistics(self) -> tuple[Statistic, ...]:
        """The score reads the Fisher information before it changes."""
        return (Walk(self.interval), Fisher(self.newest_weight))

    @property
    def penalty(self) -> Penalty:
        return Penalty(("fisher", "walk"), self.importance_weight, self.normalise)
