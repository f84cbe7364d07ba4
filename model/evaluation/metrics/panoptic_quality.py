"""Panoptic quality, from stored overlaps between true and predicted segments.

    PQ = Σ IoU over matched pairs / (TP + FP/2 + FN/2) = SQ · RQ
    SQ = Σ IoU / TP        RQ = TP / (TP + FP/2 + FN/2)

A true and a predicted segment of one class match if their IoU exceeds ½; the union leaves out predicted pixels on void.
Crowd segments are neither matched nor missed, and a prediction that lies by more than half on void or on a crowd of its
own class is not a false positive. Kirillov et al., "Panoptic Segmentation", CVPR 2019; the crowd rule is that of the released
panopticapi, where of several crowds of one class in an image only the last one listed excuses predictions.

Counting an image (``model.evaluation.metrics.overlaps``) and matching its segments (:func:`panoptic_counts`) are separate: the
overlaps of all segments are stored, so another treatment of classes not learnt yet needs no second run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from model.evaluation.metrics.overlaps import PanopticOverlaps
from model.evaluation.metrics.scores import Scores, positions_of
from model.evaluation.protocols import Protocol

QUALITIES = ("PQ", "SQ", "RQ")


@dataclass(frozen=True)
class PanopticCounts:
    """Sums per class, in the order of ``classes``.

    Attributes:
        classes: category ids.
        iou: (K,) float64, sum of the IoU of matched pairs.
        tp, fp, fn: (K,) int64, matched pairs, unmatched predictions, missed true segments.
    """

    classes: tuple[int, ...]
    iou: np.ndarray
    tp: np.ndarray
    fp: np.ndarray
    fn: np.ndarray

    @property
    def present(self) -> np.ndarray:
        """(K,) bool: classes with any true or predicted segment; the others enter no average."""
        return self.tp + self.fp + self.fn > 0


def panoptic_counts(
    overlaps: PanopticOverlaps,
    classes: Sequence[int],
    unseen_segments: Literal["void", "drop", "keep"] = "keep",
    seen_images_only: bool = False,
    threshold: float = 0.5,
) -> PanopticCounts:
    """Match all segments of all images and count.

    Args:
        overlaps: the stored overlaps.
        classes: category ids that the network knows.
        unseen_segments: treatment of true segments of other classes, see :class:`~model.evaluation.protocols.Protocol`. With
            ``keep`` the counts continue after ``classes`` with every other category that occurs, in ascending order.
        seen_images_only: leave out images without a true segment of one of ``classes``.
        threshold: IoU that a match has to exceed; below ½ pairs would no longer be unique.

    Raises:
        ValueError: for a threshold below ½, or a predicted segment of a class not in ``classes``.
    """
    if threshold < 0.5:
        raise ValueError(f"a threshold of {threshold} does not make matches unique; it must be at least 0.5")
    t, p, o = overlaps.truth, overlaps.prediction, overlaps.overlap
    order = [int(c) for c in classes]
    if unseen_segments == "keep":
        order += sorted(set(t["category"].tolist()) - set(order))
    truth_class, known = _lookup(t["category"], order), len(order)
    predicted_class = _lookup(p["category"], list(map(int, classes)))
    if (predicted_class < 0).any():
        stranger = p["category"][predicted_class < 0][0]
        raise ValueError(
            f"a predicted segment has class {stranger}, which is not among the {len(classes)} learnt classes"
        )
    seen = truth_class >= 0

    images = np.ones(overlaps.images, bool)
    if seen_images_only:
        images[:] = False
        images[t["image"][np.isin(t["category"], list(classes))]] = True

    # Each row of o is one (true, predicted) pair; index -1 is void. Appending one entry lets -1 address it.
    on_void = o["truth"] < 0
    of_seen = ~on_void & np.append(seen, False)[o["truth"]]
    if unseen_segments == "void":
        on_void |= ~of_seen
    crowd = np.append(t["crowd"], False)[o["truth"]]
    excusing = np.append(_last_crowds(t), False)[o["truth"]] & of_seen
    same = of_seen & (np.append(truth_class, -1)[o["truth"]] == predicted_class[o["prediction"]])
    pixels = o["pixels"]

    void_pixels = np.bincount(o["prediction"][on_void], pixels[on_void], len(p))
    excused = np.bincount(o["prediction"][same & excusing], pixels[same & excusing], len(p)) + void_pixels
    pair = same & ~crowd
    i, j, shared = o["truth"][pair], o["prediction"][pair], pixels[pair]
    iou = shared / (t["area"][i] + p["area"][j] - shared - void_pixels[j])
    hit = (iou > threshold) & images[p["image"][j]]
    i, j, iou = i[hit], j[hit], iou[hit]

    missed = seen & ~t["crowd"] & images[t["image"]]
    missed[i] = False
    false = (excused <= 0.5 * p["area"]) & images[p["image"]]
    false[j] = False
    return PanopticCounts(
        tuple(order),
        np.bincount(truth_class[i], iou, known),
        np.bincount(truth_class[i], minlength=known),
        np.bincount(predicted_class[false], minlength=known),
        np.bincount(truth_class[missed], minlength=known),
    )


def panoptic_quality(counts: PanopticCounts) -> dict[str, np.ndarray]:
    """PQ, SQ and RQ per class as fractions; NaN for classes without any segment."""
    weight = counts.tp + 0.5 * counts.fp + 0.5 * counts.fn
    present = counts.present
    nan = np.full(len(counts.classes), np.nan)
    pq = np.divide(counts.iou, weight, out=nan.copy(), where=present)
    rq = np.divide(counts.tp, weight, out=nan.copy(), where=present)
    sq = np.divide(counts.iou, counts.tp, out=np.where(present, 0.0, np.nan), where=counts.tp > 0)
    return {"PQ": pq, "SQ": sq, "RQ": rq}


def mean_quality(counts: PanopticCounts, chosen: Iterable[int]) -> dict[str, float] | None:
    """Mean PQ, SQ, RQ over those of the chosen indices whose class occurs; None if none does."""
    indices = np.fromiter(chosen, np.int64)
    indices = indices[counts.present[indices]]
    if not len(indices):
        return None
    return {name: float(values[indices].mean()) for name, values in panoptic_quality(counts).items()}


def panoptic_scores(
    overlaps: PanopticOverlaps,
    classes: Sequence[int],
    things: Iterable[int],
    groups: Mapping[str, Sequence[int]],
    protocol: Protocol,
) -> Scores:
    """PQ, SQ, RQ per group (also ``_things`` and ``_stuff``) and per class, in percent.

    Args:
        overlaps: the stored overlaps.
        classes: category ids that the network knows, in learning order.
        things: category ids of countable classes.
        groups: group name → category ids.
        protocol: how to evaluate. Where unseen segments are kept, group ``all`` also averages over their classes.

    Raises:
        ScoreError: for a group with a class that was not learnt.
    """
    counts = panoptic_counts(overlaps, classes, protocol.unseen_segments, protocol.images == "seen")
    countable = set(things)
    scores: dict[str, dict[str, float]] = {}
    for name, members in positions_of(groups, classes).items():
        if name == "all":
            members = [*members, *range(len(classes), len(counts.classes))]
        values: dict[str, float] = {}
        for suffix, chosen in (
            ("", members),
            ("_things", [index for index in members if counts.classes[index] in countable]),
            ("_stuff", [index for index in members if counts.classes[index] not in countable]),
        ):
            means: dict[str, Any] = mean_quality(counts, chosen) or {}
            values |= {quality + suffix: 100 * value for quality, value in means.items()}
        if values:
            scores[name] = values
    quality = panoptic_quality(counts)
    per_class = {
        name: {
            str(category): float(100 * quality[name][index]) if counts.present[index] else None
            for index, category in enumerate(classes)
        }
        for name in QUALITIES
    }
    return Scores(scores, per_class)


def _last_crowds(truth: np.ndarray) -> np.ndarray:
    """(T,) bool: the last crowd segment of every class and image."""
    crowds = np.flatnonzero(truth["crowd"])
    last = {(row["image"], row["category"]): index for index, row in zip(crowds, truth[crowds], strict=True)}
    chosen = np.zeros(len(truth), bool)
    chosen[list(last.values())] = True
    return chosen


def _lookup(values: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """Index of every value in ``order``, -1 where it is not there."""
    if not len(order):
        return np.full(len(values), -1, np.int64)
    keys = np.asarray(order, np.int64)
    by_value = np.argsort(keys)
    place = np.minimum(np.searchsorted(keys, values, sorter=by_value), len(keys) - 1)
    index = by_value[place]
    return np.where(keys[index] == values, index, -1)
