"""Joint training of a mask-classification network: all classes at once with all labels, the upper bound of every table.

It is fine-tuning's base step on a scenario of one step, so nothing is defined here but that:

    L = Σ_layers  λ_class · CE + λ_mask · BCE + λ_dice · Dice

    CE     class of each query, "no object" counting 0.1
    BCE    masks of matched queries, at sampled points
    Dice   the same

Verified against: c_matcher_criterion (the loss, that of fine-tuning).
"""

from __future__ import annotations

from dataclasses import dataclass

from model.methods.mask.base import MaskMethod


@dataclass(frozen=True)
class MaskJoint(MaskMethod):
    """No hyper-parameter besides the family's."""

    all_at_once = True
