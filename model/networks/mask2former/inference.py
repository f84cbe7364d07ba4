"""From class logits and mask probabilities to the three kinds of segmentation, for one image.

Source: Mask2Former's released code. All functions take class logits (Q, K + 1) with "no object" last, and mask probabilities
(Q, H, W) at the resolution of the answer (:func:`model.losses.mask_activation.mask_probabilities`); classes are positions in
the learning order, from 0.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from model.networks.mask2former.assembly import Instances, Segment, assemble_panoptic, best_instances


def resize_masks(masks: Tensor, padded: tuple[int, int], image: tuple[int, int], original: tuple[int, int]) -> Tensor:
    """Bring mask logits (Q, h, w) of a padded image to the original resolution.

    They are enlarged to the padded size, cropped to the image and, if that differs, resized once more to (H, W) of the original
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
    return torch.einsum("qc,qhw->chw", logits.softmax(dim=-1)[:, :-1], masks)


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
    return assemble_panoptic(logits.softmax(dim=-1), masks, things, object_threshold, overlap_threshold)


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
    return best_instances(logits.softmax(dim=-1), masks, limit, things)
