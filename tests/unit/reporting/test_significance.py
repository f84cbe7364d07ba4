"""The paired bootstrap: what differs is found, what does not is not, and drawing images is evaluating them so often."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.evaluation.metrics.confusion import ConfusionAccumulator
from model.evaluation.metrics.mean_iou import semantic_scores
from model.evaluation.metrics.overlaps import PanopticAccumulator, PanopticOverlaps, Segment
from model.evaluation.metrics.panoptic_quality import panoptic_scores
from model.evaluation.protocols import get
from model.reporting.records import EvaluationRecord, RecordError
from model.reporting.resampling import ResampledPanoptic, ResampledSemantic, resampled
from model.reporting.significance import (
    SignificanceError,
    difference_rows,
    difference_tables,
    differences,
)
from model.reporting.table_formats import markdown_tables

IMAGES = 30
GROUPS = {"old": (1,), "new": (2,), "all": (1, 2)}


def picture(seed: int, image: int, accuracy: float) -> tuple[np.ndarray, np.ndarray]:
    """Labels and prediction of an image; the labels are the same for every method and seed."""
    labels = np.random.default_rng(image).integers(1, 4, (12, 12)).astype(np.uint8)
    generator = np.random.default_rng([seed, image, round(100 * accuracy)])
    right = generator.random(labels.shape) < accuracy * np.random.default_rng(image + 99).uniform(0.5, 1)
    return labels, np.where(right & (labels < 3), labels, generator.integers(0, 3, labels.shape))


def semantic(
    accuracy: float, seed: int = 0, times: np.ndarray | None = None, protocol: str = "segue"
) -> ResampledSemantic:
    counts = ConfusionAccumulator([1, 2, 3], [1, 2], 0, 255)
    for image in range(IMAGES):
        for _ in range(1 if times is None else int(times[image])):
            counts.add(*picture(seed, image, accuracy))
    return ResampledSemantic(counts.matrix(), GROUPS, get(protocol), True)


def segments_of(image: int, times: int, accumulator: PanopticAccumulator) -> None:
    generator = np.random.default_rng(image)
    truth, prediction = np.kron(generator.integers(0, 5, (3, 3)), np.ones((4, 4), int)), np.zeros((12, 12), int)
    kept = generator.random(truth.shape) < 0.8
    prediction[kept] = truth[kept]
    categories = generator.integers(1, 4, 5)  # class 3 is not learnt yet
    true = [Segment(s, int(categories[s])) for s in range(1, 5) if (truth == s).any()]
    found = [Segment(s, int(min(categories[s], 2))) for s in range(1, 5) if (prediction == s).any()]
    for _ in range(times):
        accumulator.add(truth, true, prediction, found)


def overlaps(times: np.ndarray) -> PanopticOverlaps:
    accumulator = PanopticAccumulator()
    for image, count in enumerate(times):
        segments_of(image, int(count), accumulator)
    return accumulator.overlaps()


DRAWS = st.lists(st.integers(0, 3), min_size=IMAGES, max_size=IMAGES).filter(any).map(np.array)


@settings(max_examples=8, deadline=None)
@given(DRAWS, st.sampled_from(["segue", "mib", "plop"]))
def test_drawing_images_is_evaluating_them_so_often(times: np.ndarray, protocol: str) -> None:
    repeated = semantic(0.7, times=times, protocol=protocol)
    expected = semantic_scores(repeated.matrix, GROUPS, get(protocol), True).groups
    found = semantic(0.7, protocol=protocol).scores(times)
    assert found == pytest.approx({group: values["mIoU"] for group, values in expected.items()})


@settings(max_examples=8, deadline=None)
@given(DRAWS, st.sampled_from(["segue", "balconpas", "comformer"]))
def test_drawing_images_of_segments_is_evaluating_them_so_often(times: np.ndarray, protocol: str) -> None:
    found = ResampledPanoptic(overlaps(np.ones(IMAGES, int)), (1, 2), GROUPS, get(protocol)).scores(times)
    expected = panoptic_scores(overlaps(times), (1, 2), (1, 2), GROUPS, get(protocol)).groups
    if protocol == "comformer" and not np.isin(overlaps(times).truth["category"], 3).any():
        return  # the mean is then of the learnt classes alone
    assert found == pytest.approx({group: values["PQ"] for group, values in expected.items()})


def compared(methods: dict[str, list[float]], draws: int = 200):
    evaluations = {m: {s: semantic(value, s) for s, value in enumerate(values)} for m, values in methods.items()}
    return differences(evaluations, draws=draws, generator=np.random.default_rng(0))


def test_far_apart_methods_differ_in_every_group() -> None:
    found = compared({"good": [0.9], "poor": [0.3]})
    assert [(one.group, one.method, one.other) for one in found] == [(g, "good", "poor") for g in ("old", "new", "all")]
    for one in found:
        assert 0 < one.low < one.difference < one.high and one.p < 0.02
        assert (one.seeds, one.images) == (1, IMAGES)


def test_a_method_does_not_differ_from_itself() -> None:
    evaluations = {"one": {0: semantic(0.6)}, "same": {0: semantic(0.6)}}
    for one in differences(evaluations, draws=50, generator=np.random.default_rng(0)):
        assert (one.difference, one.low, one.high, one.p) == (0, 0, 0, 1)


def test_pairs_share_their_images() -> None:
    """Images differ more than methods do: unpaired draws could not tell these methods apart."""
    (one,) = [d for d in compared({"a": [0.70], "b": [0.62]}) if d.group == "all"]
    spread = np.std([semantic(0.70).scores(np.eye(IMAGES, dtype=int)[i])["all"] for i in range(IMAGES)])
    assert one.high - one.low < 4 * spread / np.sqrt(IMAGES)


def test_seeds_that_disagree_widen_the_interval() -> None:
    steady = compared({"a": [0.7, 0.7], "b": [0.6, 0.6]})[-1]
    torn = compared({"a": [0.9, 0.4], "b": [0.6, 0.6]})[-1]
    assert torn.high - torn.low > 2 * (steady.high - steady.low) and torn.low < 0 < torn.high and torn.seeds == 2


def test_only_common_seeds_count() -> None:
    evaluations = {"a": {0: semantic(0.9), 1: semantic(0.1, 1)}, "b": {0: semantic(0.5)}, "c": {7: semantic(0.5)}}
    found = differences(evaluations, draws=20, generator=np.random.default_rng(0))
    assert {(one.method, one.other, one.seeds) for one in found} == {("a", "b", 1)}
    assert all(one.difference > 0 for one in found)


def test_other_images_are_refused() -> None:
    few = ConfusionAccumulator([1, 2, 3], [1, 2], 0, 255)
    few.add(*picture(0, 0, 0.5))
    evaluations = {"a": {0: semantic(0.5)}, "b": {0: ResampledSemantic(few.matrix(), GROUPS, get("segue"), True)}}
    with pytest.raises(SignificanceError, match=r"'b' \(seed 0\) was evaluated on 1 images, 'a' \(seed 0\) on 30"):
        differences(evaluations, draws=1, generator=np.random.default_rng(0))


def test_the_table_has_both_directions_of_a_pair() -> None:
    key = ("toy", "semantic", "1-1", "overlapped", "tiny", "segue")
    rows = difference_rows({key: compared({"good": [0.9], "poor": [0.3]})})
    assert len(rows) == 3
    (table,) = difference_tables(rows)
    (good, poor) = table.rows
    assert good.cells[1].text.startswith("+") and poor.cells[0].text.startswith("-") and good.cells[0].text == "–"
    assert good.cells[1].rank == poor.cells[0].rank == 1
    assert "images alone" in markdown_tables("", "", [table])
    assert difference_tables(difference_rows({})) == []


def test_counts_that_do_not_tell_images_apart_are_refused(tmp_path: Path) -> None:
    matrix = semantic(0.5).matrix
    type(matrix)(matrix.categories, matrix.classes, matrix.counts, matrix.images).save(tmp_path / "counts.npz")
    record = EvaluationRecord(
        "toy", "semantic", "segue", 1, (1, 2), {1: "sky", 2: "sea"}, (), True, IMAGES, {}, {"confusion": "counts.npz"}
    )
    record.write(tmp_path / "evaluation.json")
    with pytest.raises(RecordError, match="does not tell images apart: delete it to evaluate again"):
        resampled(tmp_path / "evaluation.json", GROUPS)
    matrix.save(tmp_path / "counts.npz")
    found = resampled(tmp_path / "evaluation.json", GROUPS)
    assert found is not None and found.images == IMAGES
