"""Metrics against the recordings: mean IoU of four code bases, panoptic quality, COCO mask average precision."""

from __future__ import annotations

import numpy as np
import pytest
from golden import Case, Recording, assert_close, cases_holding, load, unpack_bits

from model.evaluation.metrics.average_precision import average_precision, detection, precision_scores
from model.evaluation.metrics.confusion import ConfusionAccumulator, ConfusionMatrix
from model.evaluation.metrics.mean_iou import (
    class_accuracy,
    class_iou,
    harmonic_mean,
    mean_over,
    pixel_accuracy,
    semantic_scores,
)
from model.evaluation.metrics.overlaps import PanopticAccumulator, PanopticOverlaps, Segment
from model.evaluation.metrics.panoptic_quality import mean_quality, panoptic_counts, panoptic_quality, panoptic_scores
from model.evaluation.protocols import get


def count(recording: Recording) -> ConfusionMatrix:
    """Class 0 of the recordings is what Segue calls background."""
    classes = range(1, recording.config["num_classes"])
    accumulator = ConfusionAccumulator(classes, classes, background_id=0, void_id=recording.config["ignore"])
    for labels, prediction in zip(recording.arrays["gt"], recording.arrays["pred"], strict=True):
        accumulator.add(labels, prediction)
    return accumulator.matrix()


def square(matrix: ConfusionMatrix) -> np.ndarray:
    counts = matrix.counts.sum(axis=0)
    return np.concatenate([counts[matrix.background_row][None], counts[: len(matrix.categories)]])


def undefined_as(values: np.ndarray, present: np.ndarray, value: float) -> np.ndarray:
    return np.where(present, values, value)


@pytest.mark.parametrize("case", cases_holding("h_metrics", "confusion"))
def test_confusion(case: Case) -> None:
    recording = load(case)
    np.testing.assert_array_equal(square(count(recording)), recording.arrays["confusion"])


@pytest.mark.parametrize("case", cases_holding("h_metrics", "confusion"))
def test_mean_iou_of_mib(case: Case) -> None:
    recording = load(case)
    counts = square(count(recording))
    iou, accuracy = class_iou(counts, 1e-6), class_accuracy(counts, 1e-6)
    present = counts.sum(axis=1) > 0
    everything = range(len(counts))
    overall = [pixel_accuracy(counts), mean_over(accuracy, counts, everything, "ground truth")]
    recorded = recording.arrays["mib.scalars"]
    assert_close(
        [*overall, mean_over(iou, counts, everything, "ground truth")], recorded[[0, 1, 3]], case.group, "float64"
    )
    frequency = counts.sum(axis=1) / counts.sum()
    assert_close(
        float((frequency * np.nan_to_num(iou)).sum()), recorded[2], case.group, "float64", "frequency weighted"
    )
    assert_close(undefined_as(iou, present, -1), recording.arrays["mib.class_iou"], case.group, "float64")
    assert_close(undefined_as(accuracy, present, -1), recording.arrays["mib.class_acc"], case.group, "float64")


@pytest.mark.parametrize("case", cases_holding("h_metrics", "confusion"))
def test_mean_iou_of_ssul(case: Case) -> None:
    recording = load(case)
    counts = square(count(recording))
    iou, accuracy = class_iou(counts, 1e-6), class_accuracy(counts, 1e-6)
    means = [mean_over(values, counts, range(len(counts)), "every class") for values in (accuracy, iou)]
    assert_close([pixel_accuracy(counts), *means], recording.arrays["ssul.scalars"], case.group, "float64")
    assert_close(iou, recording.arrays["ssul.class_iou"], case.group, "float64")


@pytest.mark.parametrize("case", cases_holding("h_metrics", "confusion"))
def test_mean_iou_of_dkd(case: Case) -> None:
    recording = load(case)
    counts = square(count(recording))
    old = recording.config["class_groups"]["old"]
    new = [position for position in range(len(counts)) if position not in old]  # DKD: everything after the base step
    iou = 100 * class_iou(counts, -1e-6)
    groups = (old, new, range(len(counts)))
    first, second, overall = (mean_over(iou, counts, group, "every class") for group in groups)
    values = [first, second, harmonic_mean(first, second), overall]
    assert_close(values, recording.arrays["dkd.miou"], case.group, "float64")
    assert_close(iou, recording.arrays["dkd.by_class"], case.group, "float64")
    first, second, overall = (100 * pixel_accuracy(counts, list(group)) for group in groups)
    values = [first, second, harmonic_mean(first, second), overall]
    assert_close(values, recording.arrays["dkd.pixel_acc"], case.group, "float64")


@pytest.mark.parametrize("case", cases_holding("h_metrics", "confusion"))
def test_mean_iou_of_balconpas(case: Case) -> None:
    recording = load(case)
    counts = square(count(recording))
    recorded = recording.config["balconpas_results_percent"]
    for metric, values in (("mIoU", class_iou(counts)), ("mACC", class_accuracy(counts))):
        for group, positions in recording.config["class_groups"].items():
            mean = 100 * mean_over(values, counts, positions, "ground truth")
            assert_close(mean, recorded[f"{metric}_{group}"], case.group, "float64", group)
    overall = 100 * mean_over(class_iou(counts), counts, range(len(counts)), "ground truth or prediction")
    assert_close(overall, recorded["mIoU"], case.group, "float64")


@pytest.mark.parametrize("case", cases_holding("h_metrics", "confusion"))
def test_named_protocols_agree_with_their_code_base(case: Case) -> None:
    recording = load(case)
    matrix = count(recording)
    groups = {"old": [c for c in recording.config["class_groups"]["old"] if c > 0]}
    groups["all"] = list(matrix.classes)
    groups["new"] = [c for c in matrix.classes if c not in groups["old"]]

    def mean_iou(protocol: str, group: str) -> float:
        return semantic_scores(matrix, groups, get(protocol), background_is_labelled=True).groups[group]["mIoU"]

    assert_close(mean_iou("plop", "all"), 100 * recording.arrays["mib.scalars"][3], case.group, "float64")
    assert_close(mean_iou("ssul-barm", "all"), 100 * recording.arrays["ssul.scalars"][2], case.group, "float64")
    old, new, harmonic, overall = recording.arrays["dkd.miou"]
    assert_close(mean_iou("dkd-star", "old"), old, case.group, "float64")
    assert_close(mean_iou("dkd-star", "new"), new, case.group, "float64")
    assert_close(mean_iou("dkd-star", "all"), overall, case.group, "float64")
    scores = semantic_scores(matrix, groups, get("dkd-star"), background_is_labelled=True)
    assert_close(scores.groups["all"]["hIoU"], harmonic, case.group, "float64")
    present = recording.arrays["mib.class_iou"][1:] >= 0
    foreground = 100 * recording.arrays["mib.class_iou"][1:][present].mean()
    assert_close(mean_iou("mib", "all"), foreground, case.group, "float64")


def collect(recording: Recording) -> PanopticOverlaps:
    accumulator = PanopticAccumulator()
    index = 0
    while f"image{index}.gt_map" in recording.arrays:
        truth, prediction = (recording.arrays[f"image{index}.{name}_map"] for name in ("gt", "pred"))
        true = [Segment(i, c, bool(crowd)) for i, c, crowd in recording.arrays[f"image{index}.gt_segments"].tolist()]
        predicted = [Segment(i, c) for i, c in recording.arrays[f"image{index}.pred_segments"].tolist()]
        accumulator.add(truth, true, prediction, predicted)
        index += 1
    return accumulator.overlaps()


@pytest.mark.parametrize("case", cases_holding("h_metrics", "per_class.tp_fp_fn"))
def test_panoptic_quality(case: Case) -> None:
    recording = load(case)
    categories = recording.arrays["category_ids"].tolist()
    things = recording.arrays["category_isthing"].astype(bool)
    counts = panoptic_counts(collect(recording), categories)
    assert counts.classes == tuple(categories)
    recorded = recording.arrays["per_class.tp_fp_fn"]
    np.testing.assert_array_equal(np.stack([counts.tp, counts.fp, counts.fn], axis=1), recorded)
    assert_close(counts.iou, recording.arrays["per_class.iou_sum"], case.group, "float64")
    quality = np.nan_to_num(np.stack(list(panoptic_quality(counts).values()), axis=1))
    assert_close(quality, recording.arrays["per_class.pq_sq_rq"], case.group, "float64")
    for chosen, row in zip((things | True, things, ~things), recording.arrays["overall"], strict=True):
        mean = mean_quality(counts, np.flatnonzero(chosen))
        present = int(counts.present[chosen].sum())
        assert (mean is None) == (present == 0)
        values = [0.0, 0.0, 0.0] if mean is None else list(mean.values())  # the original says 0 where nothing is
        assert_close([*values, present], row, case.group, "float64")


@pytest.mark.parametrize("case", cases_holding("h_metrics", "group_results"))
def test_panoptic_quality_of_groups(case: Case) -> None:
    recording = load(case)
    classes = recording.arrays["category_ids"].tolist()
    groups = recording.config["class_groups"]
    assert recording.config["things"] == np.flatnonzero(recording.arrays["category_isthing"]).tolist()
    scores = panoptic_scores(collect(recording), classes, recording.config["things"], groups, get("balconpas"))
    suffixes = {"": "", "_th": "_things", "_st": "_stuff"}
    for name, value in recording.config["group_results"].items():
        metric, group, *suffix = name.split("_")
        ours = scores.groups[group].get(metric.upper() + suffixes["".join(f"_{s}" for s in suffix)])
        if value is None:
            assert ours is None, name
        else:
            assert_close(ours, 100 * value, case.group, "float64", name)


@pytest.mark.parametrize("case", cases_holding("h_metrics", "dt_masks"))
def test_average_precision(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    recording = load(case)
    height, width = recording.config["image_size"]
    classes = range(1, recording.config["num_classes"] + 1)

    def masks(name: str) -> list[np.ndarray]:
        return [unpack_bits(row, (height, width)) for row in recording.arrays[name]]

    true = [
        {**detection(image, category, 1.0, mask), "iscrowd": int(crowd), "area": float(mask.sum())}
        for (image, category, crowd), mask in zip(recording.arrays["gt_rows"].tolist(), masks("gt_masks"), strict=True)
    ]
    scores = recording.arrays["dt_scores"].tolist()
    found = [
        detection(image, category, score, mask)
        for (image, category), score, mask in zip(
            recording.arrays["dt_rows"].tolist(), scores, masks("dt_masks"), strict=True
        )
    ]
    images = sorted({o["image_id"] for o in [*true, *found]})
    result = average_precision(
        [{"id": image, "height": height, "width": width} for image in images], true, found, list(classes)
    )
    assert_close(result.summary, recording.arrays["stats"], case.group, "float64")
    assert_close(
        np.nan_to_num(result.precision[0], nan=-1), recording.arrays["precision_iou50_all"], case.group, "float64"
    )
    per_class = result.per_class()["AP"]
    assert_close(np.nan_to_num(per_class, nan=-1), recording.arrays["per_class_ap"], case.group, "float64")
    overall = precision_scores(result, {"all": list(classes)}).groups["all"]
    assert_close(list(overall.values()), 100 * recording.arrays["stats"][:3], case.group, "float64")
    assert capsys.readouterr().out == ""
