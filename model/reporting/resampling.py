"""Evaluations whose images can be drawn anew: a score by group, as if each image had been evaluated so many times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol as Interface

import numpy as np

from model.evaluation.metrics.confusion import ConfusionMatrix
from model.evaluation.metrics.detection_matches import DetectionMatches, MatchesError
from model.evaluation.metrics.mean_iou import semantic_scores
from model.evaluation.metrics.overlaps import PanopticOverlaps
from model.evaluation.metrics.panoptic_quality import PanopticCounts, mean_quality, panoptic_counts
from model.evaluation.metrics.scores import positions_of
from model.evaluation.protocols import Protocol, get
from model.reporting.records import CONFUSION, PANOPTIC, PRECISION, PRIMARY_METRIC, EvaluationRecord, RecordError

Groups = Mapping[str, Sequence[int]]


class Resampled(Interface):
    """An evaluation of which single images are known."""

    @property
    def images(self) -> int:
        """Number of images."""

    def scores(self, times: np.ndarray) -> Mapping[str, float]:
        """Group → primary metric in percent, if each image had been evaluated so many times.

        Args:
            times: (images,) integers from 0, by image in the order of evaluation.
        """


@dataclass(frozen=True)
class ResampledSemantic:
    """Mean IoU of groups."""

    matrix: ConfusionMatrix
    groups: Groups
    protocol: Protocol
    background_is_labelled: bool

    @property
    def images(self) -> int:
        """Number of images."""
        return sum(self.matrix.images)

    def scores(self, times: np.ndarray) -> Mapping[str, float]:
        """As :meth:`Resampled.scores`."""
        drawn = self.matrix.resampled(times)
        found = semantic_scores(drawn, self.groups, self.protocol, self.background_is_labelled).groups
        return {group: values["mIoU"] for group, values in found.items() if "mIoU" in values}


@dataclass
class ResampledPanoptic:
    """Panoptic quality of groups: the segments of each image are matched once, and the counts drawn."""

    overlaps: PanopticOverlaps
    classes: tuple[int, ...]
    groups: Groups
    protocol: Protocol
    _order: tuple[int, ...] = field(init=False)
    _sums: np.ndarray = field(init=False)  # (4, images, K): iou, tp, fp, fn

    def __post_init__(self) -> None:
        settings = self.protocol.unseen_segments, self.protocol.images == "seen"
        self._order = panoptic_counts(self.overlaps, self.classes, *settings).classes
        place = {category: index for index, category in enumerate(self._order)}
        self._sums = np.zeros((4, self.overlaps.images, len(self._order)))
        for image, part in enumerate(single_images(self.overlaps)):
            counts = panoptic_counts(part, self.classes, *settings)
            columns = [place[category] for category in counts.classes]
            self._sums[:, image, columns] = counts.iou, counts.tp, counts.fp, counts.fn

    @property
    def images(self) -> int:
        """Number of images."""
        return self.overlaps.images

    def scores(self, times: np.ndarray) -> Mapping[str, float]:
        """As :meth:`Resampled.scores`."""
        iou, *numbers = np.einsum("i,sik->sk", times.astype(float), self._sums)
        counts = PanopticCounts(self._order, iou, *(np.rint(number).astype(np.int64) for number in numbers))
        found = {}
        for name, members in positions_of(self.groups, self.classes).items():
            every = [*members, *range(len(self.classes), len(self._order))] if name == "all" else members
            means = mean_quality(counts, every)
            if means is not None:
                found[name] = 100 * means["PQ"]
        return found


@dataclass(frozen=True)
class ResampledInstances:
    """Average precision of groups: detections were matched within their images, and only their ranking is made anew."""

    matches: DetectionMatches
    classes: tuple[int, ...]
    groups: Groups

    @property
    def images(self) -> int:
        """Number of images."""
        return self.matches.images

    def scores(self, times: np.ndarray) -> Mapping[str, float]:
        """As :meth:`Resampled.scores`."""
        values = self.matches.class_precision(times)
        means = {name: values[members] for name, members in positions_of(self.groups, self.classes).items()}
        return {name: float(100 * np.nanmean(v)) for name, v in means.items() if not np.isnan(v).all()}


def single_images(overlaps: PanopticOverlaps) -> list[PanopticOverlaps]:
    """The overlaps of each image alone."""
    found = []
    truth_starts = np.searchsorted(overlaps.truth["image"], np.arange(overlaps.images + 1))
    prediction_starts = np.searchsorted(overlaps.prediction["image"], np.arange(overlaps.images + 1))
    image_of_pair = overlaps.prediction["image"][overlaps.overlap["prediction"]]
    pair_starts = np.searchsorted(image_of_pair, np.arange(overlaps.images + 1))
    for image in range(overlaps.images):
        t, p, o = (slice(s[image], s[image + 1]) for s in (truth_starts, prediction_starts, pair_starts))
        truth, prediction, pairs = overlaps.truth[t].copy(), overlaps.prediction[p].copy(), overlaps.overlap[o].copy()
        truth["image"], prediction["image"] = 0, 0
        pairs["truth"] = np.where(pairs["truth"] < 0, -1, pairs["truth"] - t.start)
        pairs["prediction"] -= p.start
        found.append(PanopticOverlaps(truth, prediction, pairs, 1))
    return found


def resampled(path: Path, groups: Groups) -> Resampled | None:
    """An evaluation for drawing images; None for a kind of counts that is not known here.

    Args:
        path: of the record; its raw counts are beside it.
        groups: group name → category ids.

    Raises:
        RecordError: if the record is missing or damaged, or its counts do not tell images apart.
    """
    record = EvaluationRecord.read(path)
    protocol = get(record.protocol)
    if PRIMARY_METRIC[record.task] == "mIoU" and CONFUSION in record.files:
        matrix = ConfusionMatrix.load(path.parent / record.files[CONFUSION])
        if matrix.parts is None:
            raise RecordError(f"{path} does not tell images apart: delete it to evaluate again")
        return ResampledSemantic(matrix, groups, protocol, record.background_is_labelled)
    if PANOPTIC in record.files:
        overlaps = PanopticOverlaps.load(path.parent / record.files[PANOPTIC])
        return ResampledPanoptic(overlaps, record.classes, groups, protocol)
    if PRECISION in record.files:
        try:
            matches = DetectionMatches.load(path.parent / record.files[PRECISION])
        except MatchesError as error:
            raise RecordError(str(error)) from error
        return ResampledInstances(matches, record.classes, groups)
    return None
