"""How many features of old classes STAR replays, and how often the background: from counts of pixels.

Chen et al., "Saving 100x Storage: Prototype Replay for Reconstructing Training Sample Distribution in Class-Incremental
Semantic Segmentation", NeurIPS 2023.

Verified against: g_star (numbers of replayed features, background ratio, counts carried on).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ReplayPlan:
    """How to make up for the data of earlier steps.

    Attributes:
        counts: features to draw of each old class in every iteration.
        background_ratio: ρ, how often the current background replaces the old one.
        numbers: pixels of the background and of each old class, as if all data were still there.
    """

    counts: tuple[int, ...]
    background_ratio: float
    numbers: Tensor


def replay_plan(numbers: Tensor, seen: Tensor, new: Tensor, iterations: int, setting: str) -> ReplayPlan:
    """What is missing of the distribution of all data.

    In overlapped data, half of the current background is taken to have been background before, and one in a hundred of the
    old background pixels to belong to each new class; pixels that the old network recognises need no replay there.

    Args:
        numbers: (1 + C_old,) pixels of the background and of each old class so far.
        seen: (1 + C_old,) pixels without a label in this step, by what the old network sees in them.
        new: (1 + N,) labelled pixels of this step.
        iterations: batches of a pass over the step's images.
        setting: of the scenario.

    Source: STAR (2023), section 3.2 and released code.
    """
    overlapped = setting == "overlapped"
    background = numbers[0] * (1 - 0.01 * (len(new) - 1)) if overlapped else numbers[0]
    missing = numbers[1:] - seen[1:] if overlapped else numbers[1:]
    counts = (missing / iterations).floor().clamp(min=0).long().tolist()
    ratio = float(background / seen[0].clamp(min=1)) - (0.5 if overlapped else 0.0)
    carried = torch.cat([background[None] + (0.5 * seen[:1] if overlapped else seen[:1]), numbers[1:]])
    if not overlapped:
        carried[1:] += seen[1:]
    return ReplayPlan(tuple(counts), max(0.0, ratio), carried)
