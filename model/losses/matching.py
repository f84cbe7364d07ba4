"""Which query answers for which target: the cheapest one-to-one assignment of each image.

Carion et al., DETR (2020), section 3.1; costs of Mask2Former (2022) and CoMFormer (2023) with the values of their released code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor

from model.common.devices import sent


class MatchingError(ValueError):
    """Costs that cannot be compared; the message names the image."""


@dataclass(frozen=True)
class Match:
    """The assignment of one image: query ``queries[i]`` answers for target ``targets[i]``.

    Attributes:
        queries: (n,) int64 on the CPU, ascending; n is the smaller of the numbers of queries and targets.
        targets: (n,) int64 on the CPU.
    """

    queries: Tensor
    targets: Tensor


@dataclass(frozen=True)
class Pairs:
    """Matched pairs of all images for several sets of predictions, on the device of the predictions.

    Attributes:
        queries: (L, M) int64, places among the queries of all images one after the other, ascending in each row.
        targets: (L, M) int64, places among the targets of all images one after the other.
    """

    queries: Tensor
    targets: Tensor

    @classmethod
    def of(cls, sets: Sequence[Sequence[Match]], queries: int, counts: Sequence[int], device: torch.device) -> Pairs:
        """Send matches of the host to a device, all in one copy.

        Args:
            sets: for each set of predictions the matches of its images; as many pairs in each.
            queries: of an image.
            counts: targets of each image.
            device: where to.
        """
        before = [0, *accumulate(counts)]
        rows = [
            torch.stack(
                [
                    torch.cat([match.queries + image * queries for image, match in enumerate(matches)]),
                    torch.cat([match.targets + first for first, match in zip(before, matches, strict=False)]),
                ]
            )
            for matches in sets
        ]
        on_device = sent(torch.stack(rows), device)
        return cls(on_device[:, 0], on_device[:, 1])


def class_cost(logits: Tensor, labels: Tensor) -> Tensor:
    """Minus the probability of the target's class: logits (…, Q, K + 1) and labels (…, N) to (…, Q, N)."""
    return -columns(logits.softmax(dim=-1), labels)


def columns(values: Tensor, labels: Tensor) -> Tensor:
    """Columns of (…, Q, K) for labels (…, N): (…, Q, N)."""
    return values.gather(-1, labels[..., None, :].expand(*values.shape[:-1], -1))


def cross_entropy_cost(mask_logits: Tensor, mask_targets: Tensor) -> Tensor:
    """Mean binary cross-entropy of every pair: (…, Q, P) logits and (…, N, P) targets in [0, 1] to (…, Q, N)."""
    # log(1 + e^x) − x·t is the cross-entropy for any target t, so one product with the targets is enough
    return (F.softplus(mask_logits).sum(dim=-1, keepdim=True) - mask_logits @ mask_targets.mT) / mask_logits.shape[-1]


def dice_overlap(probabilities: Tensor, mask_targets: Tensor) -> Tensor:
    """Smoothed Dice overlap of every pair: (…, Q, P) probabilities and (…, N, P) targets to (…, Q, N)."""
    overlap = 2 * probabilities @ mask_targets.mT
    areas = probabilities.sum(dim=-1, keepdim=True) + mask_targets.sum(dim=-1)[..., None, :]
    return (overlap + 1) / (areas + 1)


def dice_cost(probabilities: Tensor, mask_targets: Tensor) -> Tensor:
    """One minus :func:`dice_overlap`."""
    return 1 - dice_overlap(probabilities, mask_targets)


def harmonic_cost(probabilities: Tensor, overlaps: Tensor) -> Tensor:
    """Minus the harmonic mean of class probability and Dice overlap (…, Q, N): a pair has to be good in both.

    Source: CoMFormer, released code.
    """
    return -2 * probabilities * overlaps / (probabilities + overlaps)


def assign(costs: Sequence[Tensor], names: Sequence[str] | None = None) -> list[Match]:
    """Solve assignments, after one copy of all costs to the host.

    Args:
        costs: (Q, N) for each image, of several sets of predictions if need be; N may be zero.
        names: of the images, for the message of an error, as many as costs; their numbers if None.

    Raises:
        MatchingError: if a cost is not finite.
    """
    from scipy.optimize import linear_sum_assignment  # here: an evaluation matches nothing and need not load it

    sizes = [cost.numel() for cost in costs]
    # each copy would wait for the device
    on_host = torch.cat([cost.detach().flatten() for cost in costs]).cpu().split(sizes)
    matches = []
    for index, (flat, cost) in enumerate(zip(on_host, costs, strict=True)):
        if not torch.isfinite(flat).all():
            name = names[index] if names is not None else str(index)
            raise MatchingError(
                f"image '{name}': the matching costs are not finite, so the network's outputs have diverged; "
                "lower the learning rate, clip gradients, or train in single precision"
            )
        queries, targets = linear_sum_assignment(flat.view(cost.shape).numpy())
        matches.append(Match(torch.from_numpy(queries).long(), torch.from_numpy(targets).long()))
    return matches
