"""Prepared splits in detectron2's standard format; its evaluators give our values for the same predictions."""

from __future__ import annotations

import importlib.util
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from stored_networks import prepared_shapes

from model.common.own_folders import ForeignFolderError
from model.data.prepared.dataset import ImageRecord, PreparedDataset
from model.evaluation.evaluators.mask_panoptic import true_segments
from model.evaluation.metrics.average_precision import average_precision, detection, precision_scores
from model.evaluation.metrics.confusion import ConfusionAccumulator
from model.evaluation.metrics.mean_iou import semantic_scores
from model.evaluation.metrics.overlaps import PanopticAccumulator
from model.evaluation.metrics.overlaps import Segment as TrueSegment
from model.evaluation.metrics.panoptic_quality import panoptic_scores
from model.evaluation.metrics.scores import Scores
from model.evaluation.prediction.predictor import Detection, Prediction, Segment
from model.evaluation.protocols import Geometry, get
from model.interop.detectron2 import Detectron2Error, to_outputs
from model.interop.detectron2_datasets import register, standard_form

INSTALLED = importlib.util.find_spec("detectron2") is not None
needs_detectron2 = pytest.mark.skipif(not INSTALLED, reason="detectron2 is not installed (it is in no registry)")
NUMBER = itertools.count()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    return prepared_shapes(tmp_path_factory.mktemp("detectron2"))


def learnt(dataset: PreparedDataset, task: str) -> tuple[int, ...]:
    """Three quarters of the classes, in another order than that of the dataset."""
    classes = dataset.classes(task)
    return (*classes[::-2], *classes[:-1:4])


def read(file: str) -> np.ndarray:
    """A label map as detectron2's semantic evaluator reads it, or the channels of an image."""
    content = cv2.imread(file, cv2.IMREAD_UNCHANGED)
    assert content is not None
    return content[..., ::-1] if content.ndim == 3 else content


def ids_of(file: str) -> np.ndarray:
    channels = read(file).astype(np.int64)
    return channels[..., 0] + 256 * channels[..., 1] + 65536 * channels[..., 2]


@pytest.mark.parametrize(
    ("protocol", "unseen", "background"), [("segue", 255, 255), ("ssul-barm", 255, 0), ("comformer", 0, 0)]
)
def test_label_maps_hold_places_in_the_learning_order(
    dataset: PreparedDataset, tmp_path: Path, protocol: str, unseen: int, background: int
) -> None:
    seen, rules = learnt(dataset, "semantic"), replace(get(protocol), geometry=Geometry("full"))
    entries, facts = standard_form(dataset, "val", "semantic", seen, tmp_path / "out", rules)
    names = {category.id: category.name for category in dataset.categories}
    assert facts["stuff_classes"] == ["background", *(names[category] for category in seen)]
    assert facts["ignore_label"] == 255
    by_contiguous = {place: one for one, place in facts["stuff_dataset_id_to_contiguous_id"].items()}
    assert [by_contiguous[place] for place in range(len(seen) + 1)] == [dataset.background_id, *seen]
    found = set()
    for entry in entries:
        record = dataset.record("val", entry["image_id"])
        assert Path(entry["file_name"]) == record.file
        assert (entry["height"], entry["width"]) == (record.height, record.width)
        drawn, labels = read(entry["sem_seg_file_name"]), dataset.read_semantic("val", record)
        for category in np.unique(labels):
            expected = seen.index(category) + 1 if category in seen else unseen
            expected = background if category == dataset.background_id else expected
            assert set(np.unique(drawn[labels == category]).tolist()) == {expected}
            found.add(expected)
    assert {1, unseen} <= found


@pytest.mark.parametrize("protocol", ["segue", "balconpas", "comformer"])
def test_segments_are_those_that_the_protocol_evaluates(
    dataset: PreparedDataset, tmp_path: Path, protocol: str
) -> None:
    seen = learnt(dataset, "panoptic")
    entries, facts = standard_form(dataset, "val", "panoptic", seen, tmp_path / "out", get(protocol))
    annotated = {
        str(one["image_id"]): one["segments_info"] for one in dataset.panoptic_annotations("val")["annotations"]
    }
    stored = json.loads(Path(facts["panoptic_json"]).read_text())
    listed = {one["image_id"]: one for one in stored["annotations"]}
    strange = 0
    for entry in entries:
        truth = {one["id"]: one["category_id"] for one in annotated[entry["image_id"]]}
        expected = {number: seen.index(category) for number, category in truth.items() if category in seen}
        assert {one["id"]: one["category_id"] for one in entry["segments_info"]} == expected
        kept = set(truth) if get(protocol).unseen_segments == "keep" else set(expected)
        assert {one["id"] for one in listed[entry["image_id"]]["segments_info"]} == kept
        drawn = ids_of(entry["pan_seg_file_name"])
        assert Path(entry["pan_seg_file_name"]) == Path(facts["panoptic_root"], listed[entry["image_id"]]["file_name"])
        void = set(truth) - set(expected) if get(protocol).unseen_segments == "void" else set()
        assert set(np.unique(drawn).tolist()) - {0} == set(truth) - void
        strange += len(set(truth) - set(expected))
    assert strange
    categories = {category.id: category for category in dataset.categories}
    assert facts["stuff_classes"] == facts["thing_classes"] == [categories[one].name for one in seen]
    assert facts["stuff_dataset_id_to_contiguous_id"] == {one: place for place, one in enumerate(seen)}
    assert facts["thing_dataset_id_to_contiguous_id"] == {
        one: place for place, one in enumerate(seen) if categories[one].isthing
    }


def test_objects_of_learnt_classes_are_listed(dataset: PreparedDataset, tmp_path: Path) -> None:
    seen = learnt(dataset, "instance")
    entries, facts = standard_form(dataset, "val", "instance", seen, tmp_path / "out", get("segue"))
    assert [one["image_id"] for one in entries] == [record.id for record in dataset.records("val")]
    objects = dataset.instance_annotations("val")["annotations"]
    expected = sorted(
        (str(one["image_id"]), seen.index(one["category_id"]), *one["bbox"])
        for one in objects
        if one["category_id"] in seen
    )
    found = sorted(
        (entry["image_id"], one["category_id"], *one["bbox"]) for entry in entries for one in entry["annotations"]
    )
    assert found == expected and 0 < len(found) < len(objects)
    stored = json.loads(Path(facts["json_file"]).read_text())
    assert (
        {one["id"] for one in stored["categories"]}
        == set(seen)
        == {one["category_id"] for one in stored["annotations"]}
    )


def test_images_without_a_learnt_class_are_left_out_where_the_protocol_leaves_them_out(
    dataset: PreparedDataset, tmp_path: Path
) -> None:
    for task in ("semantic", "panoptic", "instance"):
        protocol = get("balconpas")
        assert protocol.images == "seen"
        (rare,) = dataset.classes(task)[-1:]
        entries, _ = standard_form(dataset, "val", task, (rare,), tmp_path / task, protocol)
        showing = [
            record.id for record in dataset.records("val") if (dataset.read_semantic("val", record) == rare).any()
        ]
        assert [one["image_id"] for one in entries] == showing
        assert 0 < len(showing) < len(dataset.records("val"))


def test_what_detectron2_cannot_express_is_one_line(dataset: PreparedDataset, tmp_path: Path) -> None:
    with pytest.raises(Detectron2Error, match="protocol 'mib' compares label maps at 512 pixels"):
        standard_form(dataset, "val", "semantic", dataset.classes("semantic"), tmp_path / "out", get("mib"))
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("mine")
    with pytest.raises(ForeignFolderError, match="thesis already exists"):
        standard_form(dataset, "val", "semantic", dataset.classes("semantic"), tmp_path / "thesis", get("segue"))


@pytest.mark.skipif(INSTALLED, reason="detectron2 is installed")
def test_without_detectron2_its_catalogues_are_one_line(dataset: PreparedDataset, tmp_path: Path) -> None:
    with pytest.raises(Detectron2Error, match="detectron2 is not installed"):
        register("shapes", dataset, "val", "semantic", dataset.classes("semantic"), tmp_path / "out")


# ------------------------------------------------------------------------------------------------- its evaluators and ours


def noisy_labels(dataset: PreparedDataset, record: ImageRecord, seen: tuple[int, ...], rng: Any) -> Prediction:
    """The truth, shifted, with a random class where none is learnt and in a few squares; 0 is among them."""
    labels = dataset.read_semantic("val", record)
    found = rng.integers(0, len(seen) + 1, labels.shape)
    for position, category in enumerate(seen, start=1):
        found[labels == category] = position
    found = np.roll(found, 3, axis=1)
    for _ in range(3):
        top, left = rng.integers(0, labels.shape[0] - 12), rng.integers(0, labels.shape[1] - 12)
        found[top : top + 12, left : left + 12] = rng.integers(0, len(seen) + 1)
    return Prediction(found)


def noisy_segments(dataset: PreparedDataset, record: ImageRecord, seen: tuple[int, ...], rng: Any) -> Prediction:
    """The true segments, shifted; some are missing, others have another class, and those of strange classes a learnt one."""
    truth = dataset.read_panoptic("val", record)
    (annotation,) = (
        one for one in dataset.panoptic_annotations("val")["annotations"] if str(one["image_id"]) == record.id
    )
    ids, segments = np.zeros(truth.shape, np.int32), []
    for one in annotation["segments_info"]:
        position = seen.index(one["category_id"]) + 1 if one["category_id"] in seen else 0
        if position == 0 or rng.random() < 0.2:
            position = int(rng.integers(1, len(seen) + 1))
        if rng.random() < 0.15:
            continue
        mask = np.roll(truth == one["id"], 1, axis=0)
        if mask.any():
            segments.append(Segment(len(segments) + 1, position))
            ids[mask] = len(segments)
    drawn = set(np.unique(ids).tolist())
    return Prediction(np.zeros_like(ids), ids, tuple(one for one in segments if one.id in drawn))


def noisy_objects(dataset: PreparedDataset, record: ImageRecord, seen: tuple[int, ...], rng: Any) -> Prediction:
    """The true objects of learnt classes, shifted, in any order; some twice, some with another class."""
    found = []
    for one in dataset.instance_annotations("val")["annotations"]:
        if str(one["image_id"]) == record.id:
            mask = np.roll(coco_mask.decode(one["segmentation"]).astype(bool), int(rng.integers(0, 3)), axis=1)
            known = one["category_id"] in seen and rng.random() < 0.8
            position = seen.index(one["category_id"]) + 1 if known else int(rng.integers(1, len(seen) + 1))
            found.append(Detection(position, float(rng.random()), mask))
            if rng.random() < 0.3:
                found.append(Detection(position, float(rng.random()), mask))
    return Prediction(np.zeros((record.height, record.width), int), detections=tuple(found))


NOISY: dict[str, Callable[..., Prediction]] = {
    "semantic": noisy_labels,
    "panoptic": noisy_segments,
    "instance": noisy_objects,
}


def predictions(dataset: PreparedDataset, task: str) -> dict[str, Prediction]:
    rng, seen = np.random.default_rng(7), learnt(dataset, task)
    return {record.id: NOISY[task](dataset, record, seen, rng) for record in dataset.records("val")}


def our_scores(dataset: PreparedDataset, task: str, protocol: str) -> Scores:
    """What our metrics say of the predictions."""
    seen, rules = learnt(dataset, task), get(protocol)
    groups, found = {"all": seen}, predictions(dataset, task)
    if task == "semantic":
        counts = ConfusionAccumulator(dataset.category_ids, seen, dataset.background_id, dataset.void_id)
        for record in dataset.records("val"):
            counts.add(dataset.read_semantic("val", record), found[record.id].labels)
        return semantic_scores(counts.matrix(), groups, rules, dataset.background_is_labelled)
    if task == "panoptic":
        overlaps = PanopticAccumulator()
        annotated = {
            str(one["image_id"]): one["segments_info"] for one in dataset.panoptic_annotations("val")["annotations"]
        }
        for record in dataset.records("val"):
            truth, prediction = dataset.read_panoptic("val", record), found[record.id]
            listed = true_segments(annotated[record.id], truth, rules.segment_areas == "annotation")
            predicted = [TrueSegment(one.id, seen[one.position - 1]) for one in prediction.segments]
            overlaps.add(truth, listed, prediction.ids, predicted)
        things = [category.id for category in dataset.categories if category.isthing]
        return panoptic_scores(overlaps.overlaps(), seen, things, groups, rules)
    images = [{"id": one.id, "height": one.height, "width": one.width} for one in dataset.records("val")]
    objects = [{**one, "image_id": str(one["image_id"])} for one in dataset.instance_annotations("val")["annotations"]]
    detections = [
        detection(name, seen[one.position - 1], one.score, one.mask)
        for name, prediction in found.items()
        for one in prediction.detections
    ]
    return precision_scores(average_precision(images, objects, detections, seen), groups)


@pytest.fixture
def entered(dataset: PreparedDataset, tmp_path: Path) -> Iterator[Callable[[str, str], str]]:
    """Enters the validation images under a name of their own; the catalogues are as before afterwards."""
    from detectron2.data import DatasetCatalog, MetadataCatalog

    names: list[str] = []

    def enter(task: str, protocol: str = "segue") -> str:
        names.append(f"shapes-{next(NUMBER)}")
        register(names[-1], dataset, "val", task, learnt(dataset, task), tmp_path / names[-1], protocol)
        return names[-1]

    yield enter
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def their_scores(dataset: PreparedDataset, task: str, name: str, evaluator: Any) -> Any:
    """What an evaluator of detectron2 says of the same predictions."""
    from detectron2.data import DatasetCatalog

    countable = {category.id for category in dataset.categories if category.isthing}
    things = torch.tensor([category in countable for category in learnt(dataset, task)])
    found = predictions(dataset, task)
    evaluator.reset()
    for entry in DatasetCatalog.get(name):
        evaluator.process([entry], [to_outputs(found[entry["image_id"]], task, things)])
    return evaluator.evaluate()


@needs_detectron2
def test_a_name_is_entered_once(dataset: PreparedDataset, entered: Callable[..., str], tmp_path: Path) -> None:
    from detectron2.data import DatasetCatalog

    name = entered("panoptic")
    assert len(DatasetCatalog.get(name)) == len(dataset.records("val"))
    with pytest.raises(Detectron2Error, match=f"has a dataset '{name}' already"):
        register(name, dataset, "val", "panoptic", learnt(dataset, "panoptic"), tmp_path / "again")


@needs_detectron2
def test_its_semantic_evaluator_gives_our_iou(dataset: PreparedDataset, entered: Callable[..., str]) -> None:
    from detectron2.evaluation import SemSegEvaluator

    name, ours = entered("semantic"), our_scores(dataset, "semantic", "segue")
    theirs = their_scores(dataset, "semantic", name, SemSegEvaluator(name, distributed=False))["sem_seg"]
    assert theirs["mIoU"] == pytest.approx(ours.groups["all"]["mIoU"], abs=1e-9)
    assert theirs["mACC"] == pytest.approx(ours.groups["all"]["mAcc"], abs=1e-9)
    assert theirs["pACC"] == pytest.approx(ours.groups["all"]["pixel_accuracy"], abs=1e-9)
    names = {category.id: category.name for category in dataset.categories}
    for category in learnt(dataset, "semantic"):
        value = ours.classes["IoU"][str(category)]
        expected = pytest.approx(np.nan if value is None else value, abs=1e-9, nan_ok=True)
        assert theirs[f"IoU-{names[category]}"] == expected
    assert 20 < theirs["mIoU"] < 95


@needs_detectron2
@pytest.mark.parametrize("protocol", ["segue", "balconpas", "comformer"])
def test_its_panoptic_evaluator_gives_our_quality(
    dataset: PreparedDataset, entered: Callable[..., str], tmp_path: Path, protocol: str
) -> None:
    pytest.importorskip("panopticapi", reason="panopticapi is not installed (it is in no registry)")
    from detectron2.evaluation import COCOPanopticEvaluator

    name, ours = entered("panoptic", protocol), our_scores(dataset, "panoptic", protocol).groups["all"]
    evaluator = COCOPanopticEvaluator(name, str(tmp_path / "results"))
    theirs = their_scores(dataset, "panoptic", name, evaluator)["panoptic_seg"]
    for quality in ("PQ", "SQ", "RQ"):
        assert theirs[quality] == pytest.approx(ours[quality], abs=1e-9)
        assert theirs[f"{quality}_th"] == pytest.approx(ours[f"{quality}_things"], abs=1e-9)
        assert theirs[f"{quality}_st"] == pytest.approx(ours[f"{quality}_stuff"], abs=1e-9)
    assert 10 < theirs["PQ"] < 90


@needs_detectron2
@pytest.mark.parametrize("fast", [False, True])
def test_its_instance_evaluator_gives_our_precision(
    dataset: PreparedDataset, entered: Callable[..., str], tmp_path: Path, fast: bool
) -> None:
    from detectron2.evaluation import COCOEvaluator

    name, ours = entered("instance"), our_scores(dataset, "instance", "segue")
    evaluator = COCOEvaluator(name, ("segm",), False, str(tmp_path / "results"), use_fast_impl=fast)
    theirs = their_scores(dataset, "instance", name, evaluator)["segm"]
    for metric in ("AP", "AP50", "AP75"):
        assert theirs[metric] == pytest.approx(ours.groups["all"][metric], abs=1e-6)
    assert 10 < theirs["AP"] < 95
