"""Fine-tuning that also measures how much each parameter matters: the base step of EWC, PI and RW.

Nothing acts on the network: with equal seeds it is trained exactly like fine-tuning's base step. It is a training of its own
all the same, so that asking for one of those methods later leaves the shared base step, and everything that continues
from it unchanged. One such training gathers what all of them need.

    L = CE(z, y)

    z   (B, K, H, W)   logits, background first
    y   (B, H, W)      labels visible in this step, 255 = ignore; the mean is over all pixels

Verified against: g_mib_losses for the loss (that of fine-tuning), g_regularisers for the statistics.
"""

from __future__ import annotations

from dataclasses import dataclass

from model.methods.pixel.importance import Fisher, Fraction, ImportanceMethod, Interval, PathIntegral, Statistic, Walk


@dataclass(frozen=True)
class ObservedFinetuning(ImportanceMethod):
    """The fields are those of the methods that continue from it, with their released defaults."""

    newest_weight: Fraction = 0.9
    interval: Interval = 10

    base_method = None

    @property
    def statistics(self) -> tuple[Statistic, ...]:
        """All that any method asks for; the walk reads the Fisher information before it changes."""
        return (Walk(self.interval), Fisher(self.newest_weight), PathIntegral())
