"""Prototypes that follow drifting features, and Adapter's rule of what to replay.

Zhu et al., "Adaptive Prototype Replay for Class Incremental Semantic Segmentation" (Adapter), AAAI 2025.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from model.methods.pixel.star_features import ClassStatistics
from model.methods.pixel.star_replay_plan import ReplayPlan


@dataclass
class Drift:
    """How the features of C old classes have moved, gathered over pixels that both networks are certain of.

    Attributes:
        before: (C, D), sums of unit features of the old network.
        now: (C, D), the same of the network in training.
        counts: (C,), pixels.
    """

    before: Tensor
    now: Tensor
    counts: Tensor

    @classmethod
    def none(cls, like: Tensor) -> Drift:
        """No pixel seen yet of the classes whose prototypes are ``like`` (C, D); sums are in double precision."""
        zeros = torch.zeros_like(like, dtype=torch.double)
        return cls(zeros, zeros.clone(), zeros[:, 0].clone())

    def observe(self, old_features: Tensor, features: Tensor, classes: Tensor) -> None:
        """Add a batch.

        Args:
            old_features: (B, D, h, w) of the old network.
            features: the same of the network in training.
            classes: (B, h, w), c + 1 at pixels of the c-th old class that both networks are certain of, else 0.
        """
        chosen = classes > 0
        places = classes[chosen] - 1
        for sums, rows in ((self.before, old_features), (self.now, features)):
            sums.index_add_(0, places, functional.normalize(rows.permute(0, 2, 3, 1)[chosen].double(), dim=1))
        self.counts += torch.bincount(places, minlength=len(self.counts)).to(self.counts)


def adapted_statistics(old: ClassStatistics, drift: Drift, numbers: Tensor) -> ClassStatistics:
    r"""Move prototypes along with the features, :math:`p_c + ρ_c (ν_c - o_c)`, and widen deviations by how far they moved.

    o and ν are the directions of ``drift.before`` and ``drift.now``, ρ is the share of the class's pixels that were seen. Results
    are not normalised again, ρ is not limited; a class that was not seen stays.

    Args:
        old: as the step started.
        drift: since then.
        numbers: (C,), pixels of each class so far.

    Source: Adapter (2025), "adaptive deviation compensation"; released code, where the call is commented out.
    """
    moved = functional.normalize(drift.now, dim=1) - functional.normalize(drift.before, dim=1)
    share = drift.counts / numbers.to(drift.counts).clamp(min=1)
    step = (share[:, None] * moved).to(old.prototypes)
    return ClassStatistics(old.prototypes + step, old.deviations + step.abs(), old.norms)


def adapter_replay_plan(numbers: Tensor, seen: Tensor, new: Tensor, iterations: int, setting: str) -> ReplayPlan:
    """What is missing of the distribution of all data, as Adapter counts on PASCAL VOC.

    It differs from STAR's rule (:func:`model.methods.pixel.star_replay_plan.replay_plan`): at least one feature of each class is
    replayed in every iteration; in overlapped data the lost background shrinks by the new classes' pixels, times the largest
    share of an old class that is still seen; all of the current background is carried on, and counts of old classes stay.

    Args:
        numbers: (1 + C_old,) pixels of the background and of each old class so far.
        seen: (1 + C_old,) pixels without a label in this step, by what the old network sees in them.
        new: (1 + N,) labelled pixels of this step.
        iterations: batches of a pass over the step's images.
        setting: of the scenario.

    Source: Adapter (2025), released code.
    """
    overlapped = setting == "overlapped"
    background = numbers[0] * (1 - 0.01 * (len(new) - 1)) if overlapped else numbers[0]
    missing = numbers[1:] - seen[1:] if overlapped else numbers[1:]
    counts = (missing / iterations).trunc().clamp(min=1).long().tolist()
    lost = background
    if overlapped:
        share = (seen[1:] / numbers[1:].clamp(min=1)).max().clamp(max=1)
        lost = background - share * new[1:].sum()
    ratio = float(lost / seen[0].clamp(min=1))
    carried = torch.cat([(background + seen[0])[None], numbers[1:]])
    return ReplayPlan(tuple(counts), max(0.0, ratio), carried)
