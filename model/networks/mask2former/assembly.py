"""From class and mask probabilities of queries to segments, a label map or instances, for one image.

Mask probabilities are (Q, H, W) at the resolution of the answer, a tensor or :class:`Masks`; classes are positions in the
learning order, from 0. Most queries of an image are of no consequence for it, so they are dropped before anything is computed
per pixel: the answer is the same bit for bit, in a fraction of the time of the released order of operations.

Source: Mask2Former's released code; label maps that queries do not vote on: CoMFormer's and ECLIPSE's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


class Masks(Protocol):
    """Mask probabilities (Q, H, W) of an image: a tensor, or something that computes those of the queries it is asked for."""

    @property
    def shape(self) -> torch.Size:
        """Of all masks."""

    def __getitem__(self, queries: Any, /) -> Tensor:
        """Those of some queries, (n, H, W), chosen as rows of a tensor are."""


@dataclass(frozen=True)
class Segment:
    """One segment of a panoptic map.

    Attributes:
        id: its value in the map, from 1.
        category: position in the learning order.
        isthing: whether it is one instance of a thing class; a stuff class has at most one segment.
    """

    id: int
    category: int
    isthing: bool


@dataclass(frozen=True)
class Instances:
    """Instances of one image, best first.

    Attributes:
        scores: (N,) float.
        classes: (N,) int64, positions in the learning order.
        masks: (N, H, W) bool.
    """

    scores: Tensor
    classes: Tensor
    masks: Tensor


@dataclass(frozen=True)
class Candidates:
    """Queries that may claim pixels.

    Attributes:
        labels: (n,) int64, positions in the learning order.
        scores: (n,) by which they compete for pixels.
        masks: (n, H, W) mask probabilities.
    """

    labels: Tensor
    scores: Tensor
    masks: Tensor


def sure_queries(classes: Tensor, masks: Masks, threshold: float) -> Candidates:
    """Queries whose most probable class is not "no object", and more probable than a threshold.

    Args:
        classes: (Q, K + 1) probabilities, "no object" last.
        masks: (Q, H, W) probabilities.
        threshold: exclusive.
    """
    scores, labels = classes.max(dim=-1)
    kept = (labels != classes.shape[-1] - 1) & (scores > threshold)
    return Candidates(labels[kept], scores[kept], masks[kept])


@dataclass(frozen=True)
class Regions:
    """Disjoint parts of an image, one for each query that was kept.

    Attributes:
        owner: (H, W) int64, the candidate that claims a pixel most, kept or not.
        inside: (H, W) bool: whether the pixel lies in the mask of its owner.
        kept: the candidates that were kept, in their order.
        categories: of each of them, position in the learning order.
    """

    owner: Tensor
    inside: Tensor
    kept: tuple[int, ...]
    categories: tuple[int, ...]

    def painted(self, values: Sequence[int], dtype: torch.dtype) -> Tensor:
        """(H, W) map: a value from 1 for each region, 0 elsewhere."""
        of_candidate = [0] * (max(self.kept, default=-1) + 1)
        for query, value in zip(self.kept, values, strict=True):
            of_candidate[query] = value
        # The last entry is for candidates that come after the kept ones.
        table = torch.tensor([*of_candidate, 0], dtype=dtype)
        colour = table.to(self.owner.device)[self.owner.clamp(max=len(of_candidate))]
        return colour * self.inside


def strongest(scores: Tensor, masks: Tensor) -> Tensor:
    """(H, W) int64: the query whose score times mask probability is the largest, the first one of equals.

    Query after query, since torch's arg-max over the first dimension takes several times as long on a CPU.

    Args:
        scores: (n,), n > 0.
        masks: (n, H, W).
    """
    owner = torch.zeros(masks.shape[1:], dtype=torch.int64, device=masks.device)
    best = scores[0] * masks[0]
    for query in range(1, len(masks)):
        claim = scores[query] * masks[query]
        owner.masked_fill_(claim > best, query)
        torch.maximum(best, claim, out=best)
    return owner


def claimed_regions(candidates: Candidates, overlap_threshold: float, excess_threshold: float = 0.0) -> Regions:
    """Give every pixel to the query that claims it most, and keep the queries that keep most of their mask.

    Args:
        candidates: the queries.
        overlap_threshold: a query is dropped if the pixels that it wins are a smaller share of its mask; what it wins need
            not lie in the mask.
        excess_threshold: it is dropped as well if its mask is a smaller share of what it wins (SimCIS).

    Returns:
        Regions that are never empty.
    """
    masks, count = candidates.masks, len(candidates.labels)
    if count == 0:
        nothing = torch.zeros(masks.shape[-2:], dtype=torch.int64, device=masks.device)
        return Regions(nothing, nothing.bool(), (), ())
    owner = strongest(candidates.scores, masks)
    confident = masks >= 0.5
    inside = confident.gather(0, owner[None])[0]
    # Of each candidate: pixels that it wins outside of its mask and inside of it, and pixels of its mask.
    won = torch.bincount((2 * owner + inside).flatten(), minlength=2 * count).view(count, 2)
    claimed = torch.stack([mask.count_nonzero() for mask in confident])  # faster than a sum of all rows at once
    numbers = torch.cat([won, claimed[:, None]], dim=1).tolist()
    kept = tuple(
        query
        for query, (outside, both, claim) in enumerate(numbers)
        if both > 0 and (outside + both) / claim >= overlap_threshold and claim / (outside + both) >= excess_threshold
    )
    labels = candidates.labels.tolist()
    return Regions(owner, inside, kept, tuple(labels[query] for query in kept))


def assemble_panoptic(candidates: Candidates, things: Tensor, overlap_threshold: float) -> tuple[Tensor, list[Segment]]:
    """Regions as segments; those of one stuff class are a single segment.

    Args:
        candidates, overlap_threshold: of :func:`claimed_regions`.
        things: (K,) bool, True for classes whose instances are separate segments.

    Returns:
        (H, W) int32 map of segment ids, 0 where there is none; the segments in the order of their ids.
    """
    regions = claimed_regions(candidates, overlap_threshold)
    countable = things.tolist()
    segments: list[Segment] = []
    ids: list[int] = []
    stuff: dict[int, int] = {}
    for category in regions.categories:
        isthing = bool(countable[category])
        segment = len(segments) + 1
        if not isthing and category in stuff:
            segment = stuff[category]
        else:
            segments.append(Segment(segment, category, isthing))
            if not isthing:
                stuff[category] = segment
        ids.append(segment)
    return regions.painted(ids, torch.int32), segments


def assemble_semantic(candidates: Candidates, overlap_threshold: float, excess_threshold: float = 0.0) -> Tensor:
    """Regions as a label map.

    Args:
        candidates, overlap_threshold, excess_threshold: of :func:`claimed_regions`.

    Returns:
        (H, W) int64, k + 1 for the class at position k, 0 where there is nothing.
    """
    regions = claimed_regions(candidates, overlap_threshold, excess_threshold)
    return regions.painted([category + 1 for category in regions.categories], torch.int64)


def semantic_votes(classes: Tensor, masks: Tensor) -> Tensor:
    """Scores of every class at every pixel: queries vote with class probability times mask probability.

    Args:
        classes: (Q, K) probabilities, without "no object".
        masks: (Q, H, W) probabilities.

    Returns:
        (K, H, W); the label map is its arg-max.
    """
    return torch.einsum("qc,qhw->chw", classes, masks)


def resize_labels(labels: Tensor, classes: int, size: tuple[int, int]) -> Tensor:
    """A label map (h, w) at another size: each label as a map of ones and zeros, bilinear, the largest wins.

    Args:
        labels: (h, w) int64 from 0 to ``classes``.
        classes: the largest label that there is.
        size: (H, W).
    """
    if labels.shape == size:
        return labels
    shares = F.one_hot(labels, classes + 1).permute(2, 0, 1)[None].float()
    return F.interpolate(shares, size=size, mode="bilinear", align_corners=False)[0].argmax(dim=0)


def best_instances(classes: Tensor, masks: Masks, limit: int, things: Tensor | None = None) -> Instances:
    """The best (query, class) pairs; one query may appear under several classes.

    Args:
        classes: (Q, K) probabilities, without "no object".
        masks: (Q, H, W) probabilities.
        limit: number of pairs taken before other classes are dropped.
        things: (K,) bool, True for classes that are reported; all if None.

    Returns:
        Instances whose score is the class probability times the mean probability inside the mask.
    """
    count = classes.shape[-1]
    scores, pairs = classes.flatten().topk(min(limit, classes.numel()))
    queries, labels = torch.div(pairs, count, rounding_mode="floor"), pairs % count
    if things is not None:
        reported = things.to(labels.device)[labels]
        scores, queries, labels = scores[reported], queries[reported], labels[reported]
    chosen, place = queries.unique(return_inverse=True)
    found = masks[chosen]
    inside = found > 0.5
    quality = (found * inside).flatten(1).sum(dim=1) / (inside.flatten(1).sum(dim=1) + 1e-6)
    scores, order = (scores * quality[place]).sort(descending=True, stable=True)
    return Instances(scores, labels[order], inside[place[order]])
