"""Joint training: all classes at once with all labels, the upper bound of every table.

It is fine-tuning's base step on a scenario of one step, so nothing is defined here but that:

    L = CE(z, y)

    z   (B, K, H, W)   logits of all classes of the scenario, background first
    y   (B, H, W)      all labels, 255 = ignore

One joint training serves all scenarios, settings and class orders of a dataset, recipe and seed.

Verified against: g_mib_losses for the loss (that of fine-tuning, whose base step does the training).
"""

from __future__ import annotations

from dataclasses import dataclass

from model.methods.pixel.base import PixelMethod


@dataclass(frozen=True)
class Joint(PixelMethod):
    """No hyper-parameter."""

    all_at_once = True
