"""Photographs are predicted exactly as validation images are evaluated; several views are averaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from stored_networks import prepared_shapes, stored_network

from model.data.prepared.dataset import PreparedDataset
from model.evaluation.evaluators import registry
from model.evaluation.evaluators.base import EvaluationInputs
from model.evaluation.job import load_evaluated
from model.evaluation.prediction.predictor import PredictionError, Predictor, View
from model.evaluation.protocols import get
from model.methods.registry import build
from model.scenario import Step

CPU = torch.device("cpu")
ANY = {"object_threshold": 0.0, "overlap_threshold": 0.0}
"""Networks with random weights are never sure."""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    prepared_shapes(folder)
    return folder


def predictor(
    results: Path, family: str, task: str, size: int | None, *views: View, method: str = "finetuning", **values: object
) -> Predictor:
    dataset = PreparedDataset.open(results / "data/shapes")
    classes = dataset.classes(task)
    decision = ANY | values if family == "mask" else values
    path = stored_network(results / family / task, task, classes, family=family)
    half = len(classes) - len(classes) // 2
    step = Step(1, classes[:half], classes[half:])
    countable = {category.id for category in dataset.categories if category.isthing}
    things = torch.tensor([category in countable for category in classes])
    network = load_evaluated(path, step).eval()
    built = build(method, decision, "mask" if family == "mask" else "per-pixel")
    return Predictor(network, built, step, task, things, CPU, size, None, views or (View(),))


CASES = [
    ("per-pixel", "semantic", None),
    ("per-pixel", "semantic", 70),
    ("mask", "semantic", None),
    ("mask", "semantic", 70),
    ("mask", "panoptic", 70),
    ("mask", "instance", 70),
]


@pytest.mark.parametrize(("family", "task", "size"), CASES)
def test_a_photograph_is_predicted_as_it_is_evaluated(results: Path, family: str, task: str, size: int | None) -> None:
    one = predictor(results, family, task, size)
    dataset = PreparedDataset.open(results / "data/shapes")
    inputs = EvaluationInputs(
        one.network, one.method, one.step, dataset, "val", get("segue"), size, 2, CPU, shown=len(dataset.records("val"))
    )
    evaluated = registry.evaluate(family, task, inputs).pictures
    assert {np.unique(evaluated[key]).size for key in evaluated if key.startswith("prediction/")} != {1}
    for record in dataset.records("val"):
        image = dataset.read_image(record)
        (found,) = one.predict([image])
        np.testing.assert_array_equal(found.labels, evaluated[f"prediction/{record.id}"])
        if task != "semantic":
            assert found.ids is not None
            np.testing.assert_array_equal(found.ids, evaluated[f"prediction_segments/{record.id}"])


@pytest.mark.parametrize("family", ["per-pixel", "mask"])
def test_a_prediction_does_not_depend_on_the_batch(results: Path, family: str) -> None:
    one = predictor(results, family, "semantic", None)
    images = np.random.default_rng(0).integers(0, 256, (3, 50, 70, 3), np.uint8)
    together = one.predict(list(images))
    for image, found in zip(images, together, strict=True):
        assert (one.predict([image])[0].labels == found.labels).mean() > 0.999


@pytest.mark.parametrize("family", ["per-pixel", "mask"])
def test_with_mirrored_views_a_mirrored_image_has_the_mirrored_prediction(results: Path, family: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)

    def share(*views: View) -> float:
        one = predictor(results, family, "semantic", None, *views)
        (plain,), (turned,) = one.predict([image]), one.predict([np.ascontiguousarray(image[:, ::-1])])
        return float((turned.labels[:, ::-1] == plain.labels).mean())

    assert share(View(), View(mirrored=True)) > 0.999
    assert share(View()) < 0.98


@pytest.mark.parametrize("family", ["per-pixel", "mask"])
def test_a_view_that_is_repeated_changes_nothing_and_another_scale_does(results: Path, family: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    (once,) = predictor(results, family, "semantic", None, View()).predict([image])
    (twice,) = predictor(results, family, "semantic", None, View(), View()).predict([image])
    (scaled,) = predictor(results, family, "semantic", None, View(), View(1.5)).predict([image])
    assert (once.labels == twice.labels).mean() > 0.999
    assert scaled.labels.shape == once.labels.shape
    assert (once.labels == scaled.labels).mean() < 0.999


def test_views_of_segments_are_refused(results: Path) -> None:
    with pytest.raises(PredictionError, match="segments of different views"):
        predictor(results, "mask", "panoptic", None, View(), View(mirrored=True))
    with pytest.raises(PredictionError, match="the query that wins a pixel decides"):
        predictor(results, "mask", "semantic", None, View(), View(mirrored=True), semantic_reading="regions")


def test_a_per_pixel_network_predicts_no_segments(results: Path) -> None:
    dataset = PreparedDataset.open(results / "data/shapes")
    classes = dataset.classes("semantic")
    path = stored_network(results / "other", "semantic", classes)
    step = Step(1, classes[:4], classes[4:])
    with pytest.raises(PredictionError, match="predicts semantic segmentation, not panoptic"):
        Predictor(load_evaluated(path, step), build("mib"), step, "panoptic", torch.ones(8), CPU)
