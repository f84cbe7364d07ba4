"""Mean IoU, mean accuracy and pixel accuracy of class groups, computed from a raw confusion matrix.

    IoU_c = TP_c / (TP_c + FP_c + FN_c + ε)        accuracy_c = TP_c / (TP_c + FN_c + ε)

counted over all pixels of all images at once. Which pixels count, which classes a mean is taken over and what ε is, is
defined by the protocol's :class:`~model.evaluation.protocols.BackgroundPolicy`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from model.evaluation.metrics.confusion import WITH_SEEN, ConfusionMatrix
from model.evaluation.metrics.scores import BACKGROUND, Scores, positions_of
from model.evaluation.protocols import BackgroundPolicy, Protocol


def evaluated_pixels(matrix: ConfusionMatrix, policy: BackgroundPolicy, seen_images_only: bool = False) -> np.ndarray:
    """Apply a policy: the square matrix of positions that IoU is computed from.

    Args:
        matrix: raw counts.
        policy: treatment of background pixels and of classes not learnt yet. Void is never evaluated.
        seen_images_only: leave out images without a class learnt so far.

    Returns:
        (K+1, K+1) int64, rows ground truth, columns prediction, position 0 = background.
    """
    counts = matrix.counts[WITH_SEEN] if seen_images_only else matrix.counts.sum(axis=0)
    row_of = {category: row for row, category in enumerate(matrix.categories)}
    seen = [row_of[category] for category in matrix.classes]
    background = np.zeros_like(counts[0])
    if policy.background_pixels == "count":
        background += counts[matrix.background_row]
    if policy.future_classes == "background":
        future = sorted(set(range(len(matrix.categories))) - set(seen))
        background += counts[future].sum(axis=0)
    return np.concatenate([background[None], counts[seen]])


def class_iou(square: np.ndarray, epsilon: float = 0.0) -> np.ndarray:
    """IoU of every position as a fraction; NaN where it is undefined (0/0).

    Args:
        square: (K, K) counts, rows ground truth, columns prediction.
        epsilon: added to the denominator.
    """
    hits = np.diagonal(square).astype(np.float64)
    return _ratio(hits, square.sum(axis=1) + square.sum(axis=0) - hits + epsilon)


def class_accuracy(square: np.ndarray, epsilon: float = 0.0) -> np.ndarray:
    """Fraction of every position's pixels that were found; NaN where there are none. Arguments as :func:`class_iou`."""
    return _ratio(np.diagonal(square).astype(np.float64), square.sum(axis=1) + epsilon)


def pixel_accuracy(square: np.ndarray, positions: Sequence[int] | None = None) -> float | None:
    """Fraction of the pixels of some positions (all by default) that were found; None if there are no pixels."""
    chosen = np.arange(len(square)) if positions is None else np.asarray(positions)
    total = int(square[chosen].sum())
    return float(np.diagonal(square)[chosen].sum() / total) if total else None


def mean_over(values: np.ndarray, square: np.ndarray, positions: Sequence[int], average_over: str) -> float | None:
    """Mean of per-position values over a group; None if there is nothing to average.

    Args:
        values: (K,) IoU or accuracy.
        square: (K, K) counts the values come from.
        positions: the group.
        average_over: as :attr:`model.evaluation.protocols.BackgroundPolicy.average_over`.
    """
    chosen = np.asarray(positions, np.int64)
    in_truth = square.sum(axis=1)[chosen] > 0
    counted = np.nan_to_num(values[chosen])
    if average_over == "ground truth":
        divisor = int(in_truth.sum())
        counted = counted[in_truth]
    elif average_over == "ground truth or prediction":
        divisor = int((in_truth | (square.sum(axis=0)[chosen] > 0)).sum())
    elif average_over == "every class":
        divisor = len(chosen)
    else:
        raise ValueError(f"'{average_over}' is not a rule for averaging; see BackgroundPolicy.average_over")
    return float(counted.sum() / divisor) if divisor else None


def harmonic_mean(old: float, new: float) -> float:
    """hIoU of DKD and STAR: ``2·old·new / (old + new)``, 0 if both are 0."""
    return 2 * old * new / (old + new) if old + new else 0.0


def semantic_scores(
    matrix: ConfusionMatrix, groups: Mapping[str, Sequence[int]], protocol: Protocol, background_is_labelled: bool
) -> Scores:
    """mIoU, mAcc and pixel accuracy per group, IoU and accuracy per class, and hIoU, all in percent.

    Args:
        matrix: raw counts of one evaluation.
        groups: group name → category ids, from ``model.scenario.class_groups``.
        protocol: how to evaluate.
        background_is_labelled: whether the dataset's background is annotated, or merely unlabelled.

    Returns:
        Scores; a group none of whose classes occur has no entry. The background belongs to the step of the first "old"
        class; it has a per-class value where its pixels are evaluated. ``hIoU`` is in group ``all``.

    Raises:
        ScoreError: for a group with a class that was not learnt.
    """
    policy = protocol.background_policy(background_is_labelled)
    square = evaluated_pixels(matrix, policy, protocol.images == "seen")
    iou, accuracy = class_iou(square, policy.epsilon), class_accuracy(square, policy.epsilon)
    scores: dict[str, dict[str, float]] = {}
    base = (groups.get("old") or matrix.classes)[0]
    for name, members in positions_of(groups, matrix.classes).items():
        positions = [index + 1 for index in members]
        if name in policy.background_groups and base in groups[name]:  # background belongs to the base step
            positions.insert(0, 0)
        values = {
            "mIoU": mean_over(iou, square, positions, policy.average_over),
            "mAcc": mean_over(accuracy, square, positions, policy.average_over),
            "pixel_accuracy": pixel_accuracy(square, positions),
        }
        found = {metric: 100 * value for metric, value in values.items() if value is not None}
        if found:
            scores[name] = found
    if "all" in scores and all("mIoU" in scores.get(name, {}) for name in ("old", "new")):
        scores["all"]["hIoU"] = harmonic_mean(scores["old"]["mIoU"], scores["new"]["mIoU"])
    present = square.sum(axis=1) > 0
    keys = [BACKGROUND, *map(str, matrix.classes)]
    evaluated = range(len(keys)) if policy.background_pixels == "count" else range(1, len(keys))
    per_class = {
        metric: {keys[p]: float(100 * values[p]) if present[p] else None for p in evaluated}
        for metric, values in (("IoU", iou), ("accuracy", accuracy))
    }
    return Scores(scores, per_class)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    denominator = np.asarray(denominator, np.float64)
    return np.divide(numerator, denominator, out=np.full(len(numerator), np.nan), where=denominator != 0)
