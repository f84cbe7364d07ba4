"""From class and mask logits to the three kinds of segmentation, for one image.

Source: Mask2Former's released code. All functions take logits (Q, K + 1) with "no object" last, and mask logits (Q, H, W)
at the resolution of the answer; classes are positions in the learning order, from 0.
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


def resize_masks(masks: Tensor, padded: tuple[int, int], image: tuple[int, int], original: tuple[int, int]) -> Tensor:
    """Bring mask logits (Q, h, w) of a padded image to the original resolution.

    They are enlarged to the padded size, cut to the image and, if that differs, resized once more to (H, W) of the original
    file; bilinear both times.

    Returns:
        (Q, H, W).
    """
    masks = F.interpolate(masks[None], size=padded, mode="bilinear", align_corners=False)
    masks = masks[..., : image[0], : image[1]]
    if image != original:
        masks = F.interpolate(masks, size=original, mode="bilinear", align_corners=False)
    return masks[0]


def semantic_segmentation(logits: Tensor, masks: Tensor) -> Tensor:
    """Scores of every class at every pixel: queries vote with class probability times mask probability.

    Returns:
        (K, H, W); the label map is its arg-max.
    """
    return torch.einsum("qc,qhw->chw", logits.softmax(dim=-1)[:, :-1], masks.sigmoid())


def panoptic_segmentation(
    logits: Tensor, masks: Tensor, things: Tensor, object_threshold: float = 0.8, overlap_threshold: float = 0.8
) -> tuple[Tensor, list[Segment]]:
    """Give every pixel to the query that claims it most, and keep the queries that keep most of their mask.

    Args:
        logits: (Q, K + 1).
        masks: (Q, H, W).
        things: (K,) bool, True for classes whose instances are separate segments.
        object_threshold: queries need a class probability above it.
        overlap_threshold: a query whose share of won pixels is below it is dropped.

    Returns:
        (H, W) int32 map of segment ids, 0 where there is none; the segments in the order of their ids.
    """
    no_object = logits.shape[-1] - 1
    scores, labels = logits.softmax(dim=-1).max(dim=-1)
    kept = (labels != no_object) & (scores > object_threshold)
    scores, labels, probabilities = scores[kept], labels[kept], masks[kept].sigmoid()
    ids = torch.zeros(masks.shape[-2:], dtype=torch.int32, device=masks.device)
    segments: list[Segment] = []
    if len(labels) == 0:
        return ids, segments
    owner = (scores[:, None, None] * probabilities).argmax(dim=0)  # H, W
    owned = owner == torch.arange(len(labels), device=owner.device)[:, None, None]
    confident = probabilities >= 0.5
    won, claimed, regions = (x.flatten(1).sum(dim=1).tolist() for x in (owned, confident, owned & confident))
    stuff: dict[int, int] = {}
    for query, category in enumerate(labels.tolist()):
        if min(won[query], claimed[query], regions[query]) == 0 or won[query] / claimed[query] < overlap_threshold:
            continue
        isthing = bool(things[category])
        segment = len(segments) + 1
        if not isthing and category in stuff:
            segment = stuff[category]
        else:
            segments.append(Segment(segment, category, isthing))
            if not isthing:
                stuff[category] = segment
        ids[owned[query] & confident[query]] = segment
    return ids, segments


def instance_segmentation(logits: Tensor, masks: Tensor, limit: int = 100, things: Tensor | None = None) -> Instances:
    """The best (query, class) pairs; one query may appear under several classes.

    Args:
        logits: (Q, K + 1).
        masks: (Q, H, W).
        limit: number of pairs taken before other classes are dropped.
        things: (K,) bool, True for classes that are reported; all if None.

    Returns:
        Instances whose score is the class probability times the mean probability inside the mask.
    """
    probabilities = logits.softmax(dim=-1)[:, :-1]
    classes = probabilities.shape[-1]
    scores, pairs = probabilities.flatten().topk(min(limit, probabilities.numel()))
    queries, labels = torch.div(pairs, classes, rounding_mode="floor"), pairs % classes
    if things is not None:
        reported = things.to(labels.device)[labels]
        scores, queries, labels = scores[reported], queries[reported], labels[reported]
    inside = masks > 0
    quality = (masks.sigmoid() * inside).flatten(1).sum(dim=1) / (inside.flatten(1).sum(dim=1) + 1e-6)
    scores, order = (scores * quality[queries]).sort(descending=True, stable=True)
    return Instances(scores, labels[order], inside[queries[order]])
