"""From class and mask probabilities of queries to segments, a label map or instances, for one image.

All functions take class probabilities (Q, K + 1) with "no object" last, and mask probabilities (Q, H, W) at the resolution of
the answer, however they were computed; classes are positions in the learning order, from 0.

Source: Mask2Former's released code; label maps that queries do not vote on: CoMFormer's and ECLIPSE's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
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


def claimed_regions(
    classes: Tensor, masks: Tensor, object_threshold: float, overlap_threshold: float
) -> list[tuple[int, Tensor]]:
    """Give every pixel to the query that claims it most, and keep the queries that keep most of their mask.

    Args:
        classes: (Q, K + 1) probabilities.
        masks: (Q, H, W) probabilities.
        object_threshold: queries need a class probability above it, and larger than that of "no object".
        overlap_threshold: a query whose share of won pixels is below it is dropped.

    Returns:
        Category and region (H, W) bool of each kept query, in their order; regions are disjoint and never empty.
    """
    no_object = classes.shape[-1] - 1
    scores, labels = classes.max(dim=-1)
    kept = (labels != no_object) & (scores > object_threshold)
    scores, labels, masks = scores[kept], labels[kept], masks[kept]
    if len(labels) == 0:
        return []
    owner = (scores[:, None, None] * masks).argmax(dim=0)  # H, W
    owned = owner == torch.arange(len(labels), device=owner.device)[:, None, None]
    confident = masks >= 0.5
    regions = owned & confident
    won, claimed, both = (x.flatten(1).sum(dim=1).tolist() for x in (owned, confident, regions))
    return [
        (category, regions[query])
        for query, category in enumerate(labels.tolist())
        if min(won[query], claimed[query], both[query]) > 0 and won[query] / claimed[query] >= overlap_threshold
    ]


def assemble_panoptic(
    classes: Tensor, masks: Tensor, things: Tensor, object_threshold: float, overlap_threshold: float
) -> tuple[Tensor, list[Segment]]:
    """Regions as segments; those of one stuff class are a single segment.

    Args:
        classes, masks, object_threshold, overlap_threshold: of :func:`claimed_regions`.
        things: (K,) bool, True for classes whose instances are separate segments.

    Returns:
        (H, W) int32 map of segment ids, 0 where there is none; the segments in the order of their ids.
    """
    ids = torch.zeros(masks.shape[-2:], dtype=torch.int32, device=masks.device)
    segments: list[Segment] = []
    stuff: dict[int, int] = {}
    for category, region in claimed_regions(classes, masks, object_threshold, overlap_threshold):
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


def assemble_semantic(classes: Tensor, masks: Tensor, object_threshold: float, overlap_threshold: float) -> Tensor:
    """Regions as a label map.

    Args:
        classes, masks, object_threshold, overlap_threshold: of :func:`claimed_regions`.

    Returns:
        (H, W) int64, k + 1 for the class at position k, 0 where there is nothing.
    """
    labels = torch.zeros(masks.shape[-2:], dtype=torch.int64, device=masks.device)
    for category, region in claimed_regions(classes, masks, object_threshold, overlap_threshold):
        labels[region] = category + 1
    return labels


def best_instances(classes: Tensor, masks: Tensor, limit: int, things: Tensor | None = None) -> Instances:
    """The best (query, class) pairs; one query may appear under several classes.

    Args:
        classes: (Q, K + 1) probabilities.
        masks: (Q, H, W) probabilities.
        limit: number of pairs taken before other classes are dropped.
        things: (K,) bool, True for classes that are reported; all if None.

    Returns:
        Instances whose score is the class probability times the mean probability inside the mask.
    """
    probabilities = classes[:, :-1]
    count = probabilities.shape[-1]
    scores, pairs = probabilities.flatten().topk(min(limit, probabilities.numel()))
    queries, labels = torch.div(pairs, count, rounding_mode="floor"), pairs % count
    if things is not None:
        reported = things.to(labels.device)[labels]
        scores, queries, labels = scores[reported], queries[reported], labels[reported]
    inside = masks > 0.5
    quality = (masks * inside).flatten(1).sum(dim=1) / (inside.flatten(1).sum(dim=1) + 1e-6)
    scores, order = (scores * quality[queries]).sort(descending=True, stable=True)
    return Instances(scores, labels[order], inside[queries[order]])
