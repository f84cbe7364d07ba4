"""Networks, predictions and weights in detectron2's form; what takes its own types is skipped without it."""

from __future__ import annotations

import importlib.util
import itertools
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stored_networks import prepared_shapes, spread, stored_network

from model.data.prepared.dataset import PreparedDataset
from model.evaluation.evaluators import registry
from model.evaluation.evaluators.base import EvaluationInputs
from model.evaluation.job import load_evaluated
from model.evaluation.prediction.predictor import Detection, Prediction, Predictor, Segment
from model.evaluation.protocols import get
from model.interop.detectron2 import Detectron2Error, ForDetectron2, from_outputs, register_network, to_outputs
from model.interop.detectron2_datasets import register
from model.interop.official_names import fill, official_state, read_official
from model.methods.registry import build
from model.scenario import Step
from model.training.checkpoint import load_checkpoint

INSTALLED = importlib.util.find_spec("detectron2") is not None
needs_detectron2 = pytest.mark.skipif(not INSTALLED, reason="detectron2 is not installed (it is in no registry)")
THINGS = torch.tensor([True, False, True])
NUMBER = itertools.count()
ANY = {"object_threshold": 0.0, "overlap_threshold": 0.0}
"""Networks with random weights are never sure."""

Built = Callable[..., Predictor]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    return prepared_shapes(tmp_path_factory.mktemp("detectron2"))


@pytest.fixture
def built(dataset: PreparedDataset, tmp_path: Path) -> Built:
    """A predictor after a second step, with random weights."""

    def make(task: str, size: int | None = None) -> Predictor:
        family = "per-pixel" if task == "semantic" else "mask"
        classes = dataset.classes(task)[::-1]
        path = stored_network(tmp_path / task, task, classes, family=family)
        half = len(classes) - len(classes) // 2
        step = Step(1, classes[:half], classes[half:])
        countable = {category.id for category in dataset.categories if category.isthing}
        things = torch.tensor([category in countable for category in classes])
        method = build("finetuning", ANY if family == "mask" else {}, family)
        network = load_evaluated(path, step).eval()
        return Predictor(network, method, step, task, things, torch.device("cpu"), size)

    return make


def panoptic() -> Prediction:
    ids = np.zeros((4, 6), np.int32)
    ids[:2], ids[3] = 1, 2
    labels = np.where(ids == 1, 3, np.where(ids == 2, 2, 0))
    return Prediction(labels, ids, (Segment(1, 3), Segment(2, 2)))


def test_label_maps_and_segments_come_back() -> None:
    labels = np.array([[0, 1, 2], [3, 3, 0]])
    outputs = to_outputs(Prediction(labels), "semantic", THINGS)
    assert outputs["sem_seg"].shape == (4, 2, 3) and outputs["sem_seg"].sum() == 6
    np.testing.assert_array_equal(from_outputs(outputs).labels, labels)
    theirs = {"sem_seg": torch.nn.functional.one_hot(torch.tensor([[0, 2]])).permute(2, 0, 1) * 0.4}
    np.testing.assert_array_equal(from_outputs(theirs, background=False).labels, [[1, 3]])
    outputs = to_outputs(panoptic(), "panoptic", THINGS)
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
    with pytest.raises(Detectron2Error, match="comes without segments_info"):
        from_outputs({"panoptic_seg": (torch.zeros(2, 2), None)})


@pytest.mark.parametrize("image_format", ["RGB", "BGR"])
@pytest.mark.parametrize("task", ["semantic", "panoptic"])
def test_a_network_answers_batches_of_its_dataloader(
    dataset: PreparedDataset, built: Built, task: str, image_format: str
) -> None:
    one = built(task)
    images = [dataset.read_image(record) for record in dataset.records("val")[:2]]
    given = [image[..., ::-1] if image_format == "BGR" else image for image in images]
    batch = [{"image": torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32))} for image in given]
    outputs = ForDetectron2(one, image_format)(batch)
    for image, found in zip(images, outputs, strict=True):
        np.testing.assert_array_equal(from_outputs(found).labels, one.predict([image])[0].labels)
    with pytest.raises(Detectron2Error, match=r"INPUT\.FORMAT is 'L'"):
        ForDetectron2(one, "L")


@pytest.mark.parametrize("task", ["semantic", "panoptic"])
def test_the_answer_has_the_size_that_is_asked_for(dataset: PreparedDataset, built: Built, task: str) -> None:
    """detectron2 scales images before it gives them to a model, and tells the size of the original."""
    image = torch.from_numpy(dataset.read_image(dataset.records("val")[0]).transpose(2, 0, 1).copy())
    model = ForDetectron2(built(task), "RGB")
    same, other = model([{"image": image}, {"image": image, "height": 90, "width": 70}])
    assert from_outputs(same).labels.shape == image.shape[1:]
    assert from_outputs(other).labels.shape == (90, 70)
    assert len(np.unique(from_outputs(other).labels)) > 1


def test_its_weights_are_those_of_the_release(built: Built) -> None:
    one, other = (ForDetectron2(built("panoptic")) for _ in range(2))
    spread(other.network)
    stored = one.state_dict()
    assert stored._metadata["sem_seg_head"]["version"] == 2
    assert stored.keys() == one.network.state_dict().keys()
    criterion = {"criterion.empty_weight": torch.ones(9)}
    done = other.load_state_dict({**stored, **criterion})
    assert not done.missing_keys and not done.unexpected_keys
    assert all(torch.equal(value, stored[key]) for key, value in other.network.state_dict().items())
    with pytest.raises(ValueError, match="1 missing: backbone"):
        other.load_state_dict(dict(list(stored.items())[1:]), strict=False)


@pytest.mark.skipif(INSTALLED, reason="detectron2 is installed")
def test_without_detectron2_its_types_are_one_line(built: Built) -> None:
    with pytest.raises(Detectron2Error, match="detectron2 is not installed"):
        register_network("Segue", built("semantic"))
    with pytest.raises(Detectron2Error, match="detectron2 is not installed"):
        to_outputs(Prediction(np.zeros((2, 2), int)), "instance", THINGS)


# --------------------------------------------------------------------------------------------------- beside detectron2 itself


@needs_detectron2
def test_objects_come_back_as_instances() -> None:
    masks = np.zeros((2, 4, 6), bool)
    masks[0, :2, :3], masks[1, 2:, 3:] = True, True
    detections = (Detection(3, 0.9, masks[0]), Detection(1, 0.4, masks[1]))
    outputs = to_outputs(Prediction(np.zeros((4, 6), int), detections=detections), "instance", THINGS)
    assert outputs["instances"].pred_boxes.tensor.tolist() == [[0, 0, 3, 2], [3, 2, 6, 4]]
    back = from_outputs(outputs).detections
    assert [(one.position, round(one.score, 4)) for one in back] == [(3, 0.9), (1, 0.4)]
    np.testing.assert_array_equal(np.stack([one.mask for one in back]), masks)
    nothing = to_outputs(Prediction(np.zeros((4, 6), int)), "instance", THINGS)
    assert len(nothing["instances"]) == 0 and from_outputs(nothing).detections == ()


def configuration(predictor: Predictor, weights: Path | None = None, image_format: str = "BGR") -> Any:
    """detectron2's, with a network of ours as the meta-architecture."""
    from detectron2.config import get_cfg

    name = f"Segue{next(NUMBER)}"
    register_network(name, predictor)
    with pytest.raises(Detectron2Error, match=f"has a meta-architecture '{name}' already"):
        register_network(name, predictor)
    found = get_cfg()
    found.MODEL.META_ARCHITECTURE, found.MODEL.DEVICE = name, "cpu"
    found.MODEL.WEIGHTS = str(weights or "")
    found.INPUT.FORMAT, found.INPUT.MIN_SIZE_TEST = image_format, 0
    return found


@needs_detectron2
@pytest.mark.parametrize("image_format", ["RGB", "BGR"])
@pytest.mark.parametrize("task", ["semantic", "panoptic", "instance"])
def test_its_predictor_gives_our_prediction(
    dataset: PreparedDataset, built: Built, task: str, image_format: str
) -> None:
    from detectron2.engine import DefaultPredictor

    one = built(task, size=70)
    image = dataset.read_image(dataset.records("val")[1])
    found = from_outputs(DefaultPredictor(configuration(one, None, image_format))(image[..., ::-1]))
    (expected,) = one.predict([image])
    if task == "instance":
        assert [(d.position, d.score) for d in found.detections] == [
            (d.position, pytest.approx(d.score)) for d in expected.detections
        ]
        np.testing.assert_array_equal([d.mask for d in found.detections], [d.mask for d in expected.detections])
        assert found.detections
    else:
        np.testing.assert_array_equal(found.labels, expected.labels)
        assert len(np.unique(found.labels)) > 1


@needs_detectron2
@pytest.mark.parametrize("suffix", [".pth", ".pkl"])
def test_its_checkpointer_reads_and_writes_released_names(built: Built, tmp_path: Path, suffix: str) -> None:
    from detectron2.checkpoint import DetectionCheckpointer
    from detectron2.engine import DefaultPredictor

    before, after = built("panoptic"), built("panoptic")
    spread(after.network)
    state = official_state(load_checkpoint(tmp_path / "panoptic" / "checkpoint.pt"), "balconpas")
    file = tmp_path / f"official{suffix}"
    if suffix == ".pth":
        torch.save({"model": state}, file)
    else:
        arrays = {key: value.numpy() for key, value in state.items()}
        file.write_bytes(pickle.dumps({"model": arrays, "__author__": "somebody"}))
    predictor = DefaultPredictor(configuration(after, file))
    expected = before.network.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in after.network.state_dict().items())

    DetectionCheckpointer(predictor.model, str(tmp_path)).save("theirs")
    again = built("panoptic")
    spread(again.network)
    fill(again.network, read_official(tmp_path / "theirs.pth", "balconpas"), "theirs.pth")
    assert all(torch.equal(value, expected[key]) for key, value in again.network.state_dict().items())


@needs_detectron2
def test_weights_of_another_network_are_refused_by_name(built: Built, tmp_path: Path) -> None:
    from detectron2.engine import DefaultPredictor

    one = built("panoptic")
    state = official_state(load_checkpoint(tmp_path / "panoptic" / "checkpoint.pt"), "balconpas")
    torch.save({"model": {key: value for key, value in state.items() if "query_feat" not in key}}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"1 missing: sem_seg_head\.predictor\.query_feat\.weight"):
        DefaultPredictor(configuration(one, tmp_path / "a.pth"))


@needs_detectron2
@pytest.mark.parametrize("task", ["semantic", "panoptic", "instance"])
def test_its_evaluation_of_a_network_gives_our_values(
    dataset: PreparedDataset, built: Built, tmp_path: Path, task: str
) -> None:
    """From files to figures: its data loader, our network as its model, its evaluators."""
    if task == "panoptic":
        pytest.importorskip("panopticapi", reason="panopticapi is not installed (it is in no registry)")
    from detectron2.data import DatasetCatalog, DatasetMapper, build_detection_test_loader
    from detectron2.evaluation import COCOEvaluator, COCOPanopticEvaluator, SemSegEvaluator, inference_on_dataset

    one, name = built(task, size=70), f"evaluated-{task}-{next(NUMBER)}"
    register(name, dataset, "val", task, one.step.seen, tmp_path / "annotations")
    results = str(tmp_path / "results")
    evaluator = {
        "semantic": lambda: SemSegEvaluator(name, False, results),
        "panoptic": lambda: COCOPanopticEvaluator(name, results),
        "instance": lambda: COCOEvaluator(name, ("segm",), False, results),
    }[task]()
    mapper = DatasetMapper(is_train=False, augmentations=[], image_format="BGR")
    loader = build_detection_test_loader(dataset=DatasetCatalog.get(name), mapper=mapper, num_workers=0)
    theirs = inference_on_dataset(ForDetectron2(one), loader, evaluator)
    inputs = EvaluationInputs(one.network, one.method, one.step, dataset, "val", get("segue"), one.size, 1, one.device)
    ours = registry.evaluate(one.method.family, task, inputs).per_class
    key, metric = {"semantic": ("sem_seg", "IoU"), "panoptic": ("panoptic_seg", "PQ"), "instance": ("segm", "AP")}[task]
    values = [value for value in ours[metric].values() if value is not None]
    total = theirs[key][{"IoU": "mIoU"}.get(metric, metric)]
    assert total == pytest.approx(np.mean(values), abs=1e-6)
    assert task != "semantic" or total > 1


@needs_detectron2
@pytest.mark.parametrize("task", ["semantic", "panoptic", "instance"])
def test_its_visualiser_names_the_classes(dataset: PreparedDataset, built: Built, tmp_path: Path, task: str) -> None:
    from detectron2.data import MetadataCatalog
    from detectron2.utils.visualizer import Visualizer

    one, name = built(task), f"drawn-{task}-{next(NUMBER)}"
    register(name, dataset, "val", task, one.step.seen, tmp_path / "annotations")
    record = dataset.records("val")[0]
    image, metadata = dataset.read_image(record), MetadataCatalog.get(name)
    seen = one.step.seen
    rng = np.random.default_rng(0)
    labels = np.repeat(
        np.repeat(rng.integers(1, len(seen) + 1, (2, 3)), image.shape[0] // 2, 0), image.shape[1] // 3 + 1, 1
    )
    labels = labels[: image.shape[0], : image.shape[1]]
    positions = np.unique(labels).tolist()
    prediction = Prediction(
        labels,
        labels.astype(np.int32),
        tuple(Segment(position, position) for position in positions),
        tuple(Detection(position, 0.9, labels == position) for position in positions),
    )
    outputs, visualiser = to_outputs(prediction, task, one.things), Visualizer(image, metadata)
    if task == "semantic":
        drawn = visualiser.draw_sem_seg(outputs["sem_seg"].argmax(dim=0))
    elif task == "panoptic":
        drawn = visualiser.draw_panoptic_seg(*outputs["panoptic_seg"])
    else:
        drawn = visualiser.draw_instance_predictions(outputs["instances"])
    names = {category.id: category.name for category in dataset.categories}
    written = {text.get_text().removesuffix(" 90%") for text in visualiser.output.ax.texts}
    assert written == {names[seen[position - 1]] for position in positions}
    assert drawn.get_image().shape == image.shape and (drawn.get_image() != image).any()


@needs_detectron2
def test_its_visualiser_draws_the_annotation(dataset: PreparedDataset, tmp_path: Path) -> None:
    from detectron2.data import DatasetCatalog, MetadataCatalog
    from detectron2.utils.visualizer import Visualizer

    for task in ("semantic", "panoptic", "instance"):
        name, seen = f"annotated-{task}-{next(NUMBER)}", dataset.classes(task)[::-1]
        register(name, dataset, "val", task, seen, tmp_path / task)
        entry = DatasetCatalog.get(name)[0]
        record = dataset.record("val", entry["image_id"])
        visualiser = Visualizer(dataset.read_image(record), MetadataCatalog.get(name))
        visualiser.draw_dataset_dict(entry)
        names = {category.id: category.name for category in dataset.categories}
        written = {text.get_text() for text in visualiser.output.ax.texts}
        present = {names[label] for label in np.unique(dataset.read_semantic("val", record)).tolist() if label in seen}
        assert written and written <= present
