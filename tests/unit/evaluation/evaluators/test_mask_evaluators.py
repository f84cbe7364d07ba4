"""Evaluates of mask networks, with a network that answers with the annotation, spoilt where a test says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.data.prepared.dataset import PreparedDataset
from model.data.prepared.segments import READERS
from model.data.sources.prepare import prepare
from model.evaluation.evaluators import registry
from model.evaluation.evaluators.base import EvaluationInputs, EvaluationResult, evenly_spread
from model.evaluation.evaluators.mask_panoptic import true_segments
from model.evaluation.evaluators.mask_prediction import seen_size
from model.evaluation.metrics.overlaps import PanopticOverlaps
from model.evaluation.protocols import PROTOCOLS, get
from model.methods.registry import build
from model.networks.mask2former.outputs import MaskOutputs, MaskPrediction
from model.scenario import Step

Spoil = Callable[[str, Tensor, Tensor], tuple[Tensor, Tensor]]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    """Images whose sides are multiples of 32, so that nothing is padded."""
    folder = tmp_path_factory.mktemp("shapes")
    prepare("shapes", {"train_images": 1, "val_images": 16, "size": [64, 64]}, folder, name="shapes")
    return PreparedDataset.open(folder)


class Knowing(nn.Module):
    """Finds the image that it is shown among those of the split, and answers with its segments."""

    def __init__(self, dataset: PreparedDataset, task: str, step: Step, spoil: Spoil | None = None) -> None:
        super().__init__()
        self.step, self.spoil = step, spoil
        self.known = []
        labels = {category: place for place, category in enumerate(step.seen)}
        read = READERS[task](dataset, "val")
        for record in dataset.records("val"):
            found, masks = read(record, labels).targets()
            image = torch.from_numpy(dataset.read_image(record).astype(np.float32))
            drawn = masks.any(axis=(1, 2))
            self.known.append((record.id, image.mean(dim=2), found[drawn], masks[drawn]))

    def forward(self, images: Tensor) -> MaskOutputs:
        queries, classes = 12, len(self.step.seen)
        logits = torch.zeros(len(images), queries, classes + 1)
        logits[..., -1] = 20.0
        masks = torch.full((len(images), queries, *images.shape[-2:]), -20.0)
        for place, image in enumerate(images):
            grey = image.mean(dim=0)
            name, _, labels, drawn = max(self.known, key=lambda one: _likeness(grey, one[1]))
            for query, (label, mask) in enumerate(zip(labels.tolist(), drawn, strict=True)):
                logits[place, query] = 0.0
                logits[place, query, label] = 20.0
                masks[place, query][torch.from_numpy(mask)] = 20.0
            if self.spoil is not None:
                logits[place], masks[place] = self.spoil(name, logits[place], masks[place])
        size = (images.shape[2], images.shape[3])
        return MaskOutputs((MaskPrediction(logits, masks),), (), masks, {}, size, "sigmoid")


def _likeness(first: Tensor, second: Tensor) -> float:
    pair = torch.stack([first.flatten(), second.flatten()])
    return float(torch.corrcoef(pair)[0, 1])


def evaluate(
    dataset: PreparedDataset, task: str, step: Step | None = None, protocol: str = "segue", spoil: Spoil | None = None
) -> EvaluationResult:
    step = step or Step(0, (), dataset.classes(task))
    network = Knowing(dataset, task, step, spoil)
    method = build("finetuning", {}, "mask")
    given = EvaluationInputs(network, method, step, dataset, "val", get(protocol), None, 4, CPU, shown=3)
    return registry.evaluate("mask", task, given)


def values(result: EvaluationResult, metric: str) -> list[float]:
    return [value for value in result.per_class[metric].values() if value is not None]


@pytest.mark.parametrize(("task", "metric"), [("panoptic", "PQ"), ("semantic", "IoU"), ("instance", "AP")])
def test_the_annotation_itself_is_perfect(shapes: PreparedDataset, task: str, metric: str) -> None:
    result = evaluate(shapes, task)
    found = values(result, metric)
    assert found and min(found) == pytest.approx(100.0)
    assert result.images == len(shapes.records("val"))
    assert "100.0 %" in result.headline


@pytest.mark.parametrize(("task", "metric"), [("panoptic", "PQ"), ("semantic", "IoU"), ("instance", "AP")])
def test_a_class_that_is_never_found_has_nothing_and_the_others_stay(
    shapes: PreparedDataset, task: str, metric: str
) -> None:
    lost = shapes.classes("instance")[0]
    place = shapes.classes(task).index(lost)

    def spoil(name: str, logits: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        of_class = logits.argmax(dim=1) == place
        logits[of_class] = F.one_hot(torch.tensor(logits.shape[1] - 1), logits.shape[1]) * 20.0
        masks[of_class] = -20.0
        return logits, masks

    result = evaluate(shapes, task, spoil=spoil)
    assert result.per_class[metric][str(lost)] == 0.0
    others = [v for key, v in result.per_class[metric].items() if key != str(lost) and v is not None]
    assert min(others) > (50.0 if task == "semantic" else 99.9)  # lost pixels go to some other class


def test_segments_of_classes_not_learnt_yet_are_void_under_the_common_protocol(shapes: PreparedDataset) -> None:
    ids = shapes.category_ids
    early = Step(0, (), ids[:4])
    assert min(values(evaluate(shapes, "panoptic", early), "PQ")) == pytest.approx(100.0)

    def everywhere(name: str, logits: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Claims what nobody else claims for the first class."""
        masks[-1] = torch.where((masks[:-1] > 0).any(dim=0), -20.0, 20.0)
        logits[-1] = F.one_hot(torch.tensor(0), logits.shape[1]) * 20.0
        return logits, masks

    kept = values(evaluate(shapes, "panoptic", early, spoil=everywhere), "PQ")
    punished = values(evaluate(shapes, "panoptic", early, "balconpas", spoil=everywhere), "PQ")
    assert min(kept) > min(punished)
    assert len(punished) == len(kept) == 4


def test_only_images_with_a_seen_class_count_where_the_protocol_says_so(shapes: PreparedDataset) -> None:
    things = shapes.classes("instance")
    annotations = shapes.instance_annotations("val")["annotations"]
    showing = {one["image_id"] for one in annotations if one["category_id"] == things[-1]}
    assert 0 < len(showing) < len(shapes.records("val"))
    assert evaluate(shapes, "instance", Step(0, (), things[-1:]), "balconpas").images == len(showing)
    assert evaluate(shapes, "instance", Step(0, (), things[-1:])).images == len(shapes.records("val"))


def test_what_is_kept_for_pictures_shows_the_segments(shapes: PreparedDataset) -> None:
    result = evaluate(shapes, "panoptic")
    names = [key.removeprefix("image/") for key in result.pictures if key.startswith("image/")]
    assert tuple(sorted(names)) == tuple(sorted(evenly_spread([r.id for r in shapes.records("val")], 3)))
    table = np.append(np.array(shapes.category_ids), 0)
    for name in names:
        truth = result.pictures[f"label_segments/{name}"]
        assert np.array_equal(truth, shapes.read_panoptic("val", shapes.record("val", name)))
        labels, guess = result.pictures[f"labels/{name}"], result.pictures[f"prediction/{name}"].astype(int)
        assert (labels[truth == 0] == 255).all() and (guess[truth == 0] == 0).all()
        assert (table[guess - 1][truth > 0] == labels[truth > 0]).all()


def test_counts_are_written_and_read(shapes: PreparedDataset, tmp_path: Path) -> None:
    result = evaluate(shapes, "panoptic")
    result.counts.save(tmp_path / "counts.npz")
    assert result.kind == "panoptic"
    assert PanopticOverlaps.load(tmp_path / "counts.npz").images == result.images


def test_areas_are_those_of_the_map_or_of_the_annotation() -> None:
    truth = np.array([[1, 1, 2]])
    listed = [{"id": 1, "category_id": 5, "area": 3}, {"id": 2, "category_id": 6, "area": 1, "iscrowd": 1}]
    listed.append({"id": 3, "category_id": 7, "area": 4})
    counted = true_segments(listed, truth, False)
    assert [(s.id, s.area, s.crowd) for s in counted] == [(1, None, False), (2, None, True)]
    assert [(s.id, s.area) for s in true_segments(listed, truth, True)] == [(1, 3), (2, 1), (3, 4)]


@pytest.mark.parametrize(
    ("size", "shortest", "expected"),
    [((480, 640), None, (480, 640)), ((480, 640), 240, (240, 320)), ((100, 1000), 64, (26, 256))],
)
def test_the_size_that_the_network_sees(size: tuple[int, int], shortest: int | None, expected: tuple[int, int]) -> None:
    assert seen_size(size, shortest) == expected


def test_the_long_side_has_a_bound_of_its_own():
    assert seen_size((480, 640), 800, 1333) == (800, 1067)
    assert seen_size((400, 1000), 800, 1333) == (533, 1333)


def test_protocols_that_cut_a_square_are_refused_for_label_maps_only() -> None:
    for protocol in PROTOCOLS.values():
        registry.check_protocol("mask", "panoptic", protocol)
    registry.check_protocol("mask", "semantic", get("comformer"))
    with pytest.raises(registry.EvaluatorError, match="'mib' compares at the size 'resize-crop'"):
        registry.check_protocol("mask", "semantic", get("mib"))
    with pytest.raises(registry.EvaluatorError, match="cannot be evaluated on panoptic"):
        registry.check_protocol("per-pixel", "panoptic", get("segue"))
