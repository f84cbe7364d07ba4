"""Datasets, predictions and networks in detectron2's form; what takes its own types is skipped without it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from stored_networks import prepared_shapes, stored_network

from model.data.prepared.dataset import PreparedDataset
from model.evaluation.job import load_evaluated
from model.evaluation.prediction.predictor import Detection, Prediction, Predictor, Segment
from model.interop.detectron2 import (
    IGNORE,
    Detectron2Error,
    ForDetectron2,
    dataset_dicts,
    from_outputs,
    metadata,
    read_labels,
    register,
    to_outputs,
)
from model.methods.registry import build
from model.scenario import Step

INSTALLED = importlib.util.find_spec("detectron2") is not None
needs_detectron2 = pytest.mark.skipif(not INSTALLED, reason="detectron2 is not installed (it is in no registry)")
THINGS = torch.tensor([True, False, True])


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    return prepared_shapes(tmp_path_factory.mktemp("detectron2"))


def test_a_split_has_every_image_and_only_learnt_classes(dataset: PreparedDataset) -> None:
    order = tuple(reversed(dataset.classes("panoptic")))
    seen = order[:5]
    for task in ("semantic", "panoptic", "instance"):
        known = [category for category in seen if category in dataset.classes(task)]
        entries = dataset_dicts(dataset, "val", task, known)
        assert [one["image_id"] for one in entries] == [record.id for record in dataset.records("val")]
        assert all(Path(one["file_name"]).is_file() and one["height"] > 0 for one in entries)
    annotated = dataset.panoptic_annotations("val")["annotations"]
    expected = {
        (str(one["image_id"]), segment["id"]): seen.index(segment["category_id"])
        for one in annotated
        for segment in one["segments_info"]
        if segment["category_id"] in seen
    }
    entries = dataset_dicts(dataset, "val", "panoptic", seen)
    found = {
        (one["image_id"], segment["id"]): segment["category_id"] for one in entries for segment in one["segments_info"]
    }
    assert found == expected != {}
    facts = metadata(dataset, "panoptic", seen)
    names = {category.id: category.name for category in dataset.categories}
    assert facts["stuff_classes"] == [names[category] for category in seen]
    assert facts["thing_dataset_id_to_contiguous_id"].items() <= facts["stuff_dataset_id_to_contiguous_id"].items()


def test_labels_become_contiguous_and_everything_else_is_ignored() -> None:
    labels = np.array([[0, 3, 9], [7, 255, 3]])
    assert read_labels(labels, (9, 3)).tolist() == [[IGNORE, 1, 0], [IGNORE, IGNORE, 1]]


def panoptic() -> Prediction:
    ids = np.zeros((4, 6), np.int32)
    ids[:2], ids[3] = 1, 2
    labels = np.where(ids == 1, 3, np.where(ids == 2, 2, 0))
    return Prediction(labels, ids, (Segment(1, 3), Segment(2, 2)))


def test_label_maps_and_segments_come_back() -> None:
    labels = np.array([[0, 1, 2], [3, 3, 0]])
    outputs = to_outputs(Prediction(labels), "semantic", THINGS, 3)
    assert outputs["sem_seg"].shape == (3, 2, 3)
    np.testing.assert_array_equal(from_outputs(outputs).labels, labels)
    outputs = to_outputs(panoptic(), "panoptic", THINGS, 3)
    assert outputs["panoptic_seg"][1] == [
        {"id": 1, "category_id": 2, "isthing": True},
        {"id": 2, "category_id": 1, "isthing": False},
    ]
    back = from_outputs(outputs)
    np.testing.assert_array_equal(back.labels, panoptic().labels)
    np.testing.assert_array_equal(back.ids, panoptic().ids)
    assert back.segments == panoptic().segments
    with pytest.raises(Detectron2Error, match="expected sem_seg, panoptic_seg or instances"):
        from_outputs({"proposals": 1})


@pytest.mark.parametrize("image_format", ["RGB", "BGR"])
def test_a_network_answers_batches_of_its_dataloader(
    dataset: PreparedDataset, tmp_path: Path, image_format: str
) -> None:
    classes = dataset.classes("semantic")
    step = Step(1, classes[:4], classes[4:])
    network = load_evaluated(stored_network(tmp_path, "semantic", classes), step)
    one = Predictor(
        network.eval(), build("mib"), step, "semantic", torch.ones(8, dtype=torch.bool), torch.device("cpu")
    )
    image = dataset.read_image(dataset.records("val")[0])
    given = image[..., ::-1] if image_format == "BGR" else image
    batch = [{"image": torch.from_numpy(given.transpose(2, 0, 1).copy())}]
    (outputs,) = ForDetectron2(one, image_format)(batch)
    np.testing.assert_array_equal(from_outputs(outputs).labels, one.predict([image])[0].labels)


@pytest.mark.skipif(INSTALLED, reason="detectron2 is installed")
def test_without_detectron2_its_types_are_one_line(dataset: PreparedDataset) -> None:
    with pytest.raises(Detectron2Error, match="detectron2 is not installed"):
        register("shapes", dataset, "val", "semantic", dataset.classes("semantic"))
    with pytest.raises(Detectron2Error, match="detectron2 is not installed"):
        to_outputs(Prediction(np.zeros((2, 2), int)), "instance", THINGS, 3)


@needs_detectron2
def test_objects_come_back_as_instances() -> None:
    masks = np.zeros((2, 4, 6), bool)
    masks[0, :2, :3], masks[1, 2:, 3:] = True, True
    detections = (Detection(3, 0.9, masks[0]), Detection(1, 0.4, masks[1]))
    outputs = to_outputs(Prediction(np.zeros((4, 6), int), detections=detections), "instance", THINGS, 3)
    assert outputs["instances"].pred_boxes.tensor.tolist() == [[0, 0, 3, 2], [3, 2, 6, 4]]
    back = from_outputs(outputs).detections
    assert [(one.position, round(one.score, 4)) for one in back] == [(3, 0.9), (1, 0.4)]
    np.testing.assert_array_equal(np.stack([one.mask for one in back]), masks)


@needs_detectron2
def test_a_registered_split_is_found_in_its_catalogues(dataset: PreparedDataset) -> None:
    from detectron2.data import DatasetCatalog, MetadataCatalog

    register("segue-shapes-val", dataset, "val", "panoptic", dataset.classes("panoptic"))
    assert len(DatasetCatalog.get("segue-shapes-val")) == len(dataset.records("val"))
    assert MetadataCatalog.get("segue-shapes-val").ignore_label == IGNORE
