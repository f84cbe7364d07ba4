"""Fine-tuning of a mask-classification network: no protection against forgetting, the lower bound of every table.

The network continues to train on the segments of the current step; everything else is "no object" there.

    L = Σ_layers  λ_class · CE + λ_mask · BCE + λ_dice · Dice

    CE     class of each query, "no object" counting 0.1
    BCE    masks of matched queries, at sampled points
    Dice   the same

Its base step is the one that methods of the family continue from.

Verified against: c_matcher_criterion (matching, value and gradient of all terms).
"""

from __future__ import annotations

from dataclasses import dataclass

from model.methods.mask.base import MaskMethod


@dataclass(frozen=True)
class MaskFinetuning(MaskMethod):
    """No hyper-parameter besides the family's."""
