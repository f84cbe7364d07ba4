"""From class and mask probabilities of queries to segments, a label map or instances, for one image.

Mask probabilities are (Q, H, W) at the resolution of the answer, however they were computed; classes are positions in the
learning order, from 0.

Source: Mask2Former's released code; label maps that queries do not vote on: CoMFormer's and ECLIPSE's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


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


def sure_queries(classes: Tensor, masks: Tensor, threshold: float) -> Candidates:
    """Queries whose most probable class is not "no object", and more probable than a threshold.

    Args:
        classes: (Q, K + 1) probabilities, "no object" last.
        masks: (Q, H, W) probabilities.
        threshold: exclusive.
    """
    scores, labels = classes.max(dim=-1)
    kept = (labels != classes.shape[-1] - 1) & (scores > threshold)
    return Candidates(labels[kept], scores[kept], masks[kept])


def claimed_regions(
    candidates: Candidates, overlap_threshold: float, excess_threshold: float = 0.0
) -> list[tuple[int, Tensor]]:
    """Give every pixel to the query that claims it most, and keep the queries that keep most of their mask.

    Args:
        candidates: the queries.
        overlap_threshold: a query is dropped if the pixels that it wins are a smaller share of its mask; what it wins need
            not lie in the mask.
        excess_threshold: it is dropped as well if its mask is a smaller share of what it wins (SimCIS).

    Returns:
        Category and region (H, W) bool of each kept query, in their order; regions are disjoint and never empty.
    """
    if len(candidates.labels) == 0:
        return []
    owner = (candidates.scores[:, None, None] * candidates.masks).argmax(dim=0)  # H, W
    owned = owner == torch.arange(len(candidates.labels), device=owner.device)[:, None, None]
    confident = candidates.masks >= 0.5
    regions = owned & confident
    won, claimed, both = (x.flatten(1).sum(dim=1).tolist() for x in (owned, confident, regions))
    return [
        (category, regions[query])
        for query, category in enumerate(candidates.labels.tolist())
        if min(won[query], claimed[query], both[query]) > 0
        and won[query] / claimed[query] >= overlap_threshold
        and claimed[query] / won[query] >= excess_threshold
    ]


def assemble_panoptic(candidates: Candidates, things: Tensor, overlap_threshold: float) -> tuple[Tensor, list[Segment]]:
    """Regions as segments; those of one stuff class are a single segment.

    Args:
        candidates, overlap_threshold: of :func:`claimed_regions`.
        things: (K,) bool, True for classes whose instances are separate segments.

    Returns:
        (H, W) int32 map of segment ids, 0 where there is none; the segments in the order of their ids.
    """
    masks = candidates.masks
    ids = torch.zeros(masks.shape[-2:], dtype=torch.int32, device=masks.device)
    segments: list[Segment] = []
    stuff: dict[int, int] = {}
    for category, region in claimed_regions(candidates, overlap_threshold):
        isthing = bool(things[category])
        segment = len(segments) + 1
        if not isthing and category in stuff:
            segment = stuff[category]
        else:
            segments.append(Segment(segment, category, isthing))
            if not isthing:
                stuff[category] = segment
        ids[region] = segment
    return ids, segments


def assemble_semantic(candidates: Candidates, overlap_threshold: float, excess_threshold: float = 0.0) -> Tensor:
    """Regions as a label map.

    Args:
        candidates, overlap_threshold, excess_threshold: of :func:`claimed_regions`.

    Returns:
        (H, W) int64, k + 1 for the class at position k, 0 where there is nothing.
    """
    masks = candidates.masks
    labels = torch.zeros(masks.shape[-2:], dtype=torch.int64, device=masks.device)
    for category, region in claimed_regions(candidates, overlap_threshold, excess_threshold):
        labels[region] = category + 1
    return labels


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


def best_instances(classes: Tensor, masks: Tensor, limit: int, things: Tensor | None = None) -> Instances:
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
    inside = masks > 0.5
    quality = (masks * inside).flatten(1).sum(dim=1) / (inside.flatten(1).sum(dim=1) + 1e-6)
    scores, order = (scores * quality[queries]).sort(descending=True, stable=True)
    return Instances(scores, labels[order], inside[queries[order]])
