"""detectron2 as a partner: our datasets in its catalogues, our networks for its predictors and evaluators, predictions both ways.

detectron2 is optional and imported only where one of its own types is made. Classes are positions in a step's learning order
from 0, which it calls contiguous ids; background, void and classes that are not learnt yet are its ``ignore_label``. Weights
need no conversion: the names of our mask networks are those that it stores (:mod:`model.interop.official_names`).

Source: detectron2's documentation of its dataset and model interfaces. Not run beside a build of detectron2 yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from model.data.prepared.dataset import PreparedDataset
from model.evaluation.prediction.predictor import Detection, Prediction, Predictor, Segment

IGNORE = 255
XYWH = 1
"""``BoxMode.XYWH_ABS``."""


class Detectron2Error(ValueError):
    """detectron2 is not installed, or what it was given cannot be expressed."""


def dataset_dicts(dataset: PreparedDataset, split: str, task: str, seen: Sequence[int]) -> list[dict[str, Any]]:
    """A split in detectron2's standard format; segments and objects of other classes than ``seen`` are left out.

    Label maps are named as they lie on the disk, in category ids: its semantic evaluator needs :func:`read_labels` for them.

    Args:
        dataset: prepared.
        split: e.g. ``val``.
        task: semantic, panoptic or instance.
        seen: category ids learnt so far, in learning order.
    """
    place = {category: position for position, category in enumerate(seen)}
    things = {category.id for category in dataset.categories if category.isthing}
    found: dict[str, dict[str, Any]] = {
        record.id: {
            "file_name": str(record.file),
            "height": record.height,
            "width": record.width,
            "image_id": record.id,
        }
        for record in dataset.records(split)
    }
    if task == "semantic":
        for record in dataset.records(split):
            found[record.id]["sem_seg_file_name"] = str(dataset.semantic_file(split, record))
    elif task == "panoptic":
        segments = {
            str(one["image_id"]): one["segments_info"] for one in dataset.panoptic_annotations(split)["annotations"]
        }
        for record in dataset.records(split):
            found[record.id]["pan_seg_file_name"] = str(dataset.panoptic_file(split, record))
            found[record.id]["segments_info"] = [
                {**one, "category_id": place[one["category_id"]], "isthing": one["category_id"] in things}
                for one in segments.get(record.id, ())
                if one["category_id"] in place
            ]
    else:
        for entry in found.values():
            entry["annotations"] = []
        for one in dataset.instance_annotations(split)["annotations"]:
            if one["category_id"] in place:
                kept = {key: one[key] for key in ("segmentation", "bbox", "iscrowd") if key in one}
                entry = {**kept, "bbox_mode": XYWH, "category_id": place[one["category_id"]]}
                found[str(one["image_id"])]["annotations"].append(entry)
    return list(found.values())


def metadata(dataset: PreparedDataset, task: str, seen: Sequence[int]) -> dict[str, Any]:
    """What detectron2's catalogue wants to know about a dataset after a step."""
    known = {category.id: category for category in dataset.categories}
    classes = [known[category] for category in seen]
    things = [(place, one) for place, one in enumerate(classes) if one.isthing or task != "panoptic"]
    facts: dict[str, Any] = {
        "thing_classes": [one.name for _, one in things],
        "thing_colors": [one.color for _, one in things],
        "thing_dataset_id_to_contiguous_id": {one.id: place for place, one in things},
        "ignore_label": IGNORE,
    }
    if task != "instance":
        facts |= {"stuff_classes": [one.name for one in classes], "stuff_colors": [one.color for one in classes]}
        facts["stuff_dataset_id_to_contiguous_id"] = {one.id: place for place, one in enumerate(classes)}
    return facts


def register(name: str, dataset: PreparedDataset, split: str, task: str, seen: Sequence[int]) -> None:
    """Enter a split, as it is after a step, into ``DatasetCatalog`` and ``MetadataCatalog``.

    Raises:
        Detectron2Error: if detectron2 is not installed.
    """
    catalogues = _detectron2("data")
    catalogues.DatasetCatalog.register(name, lambda: dataset_dicts(dataset, split, task, seen))
    catalogues.MetadataCatalog.get(name).set(**metadata(dataset, task, seen))


def read_labels(labels: np.ndarray, seen: Sequence[int]) -> np.ndarray:
    """(H, W) category ids as contiguous ids, :data:`IGNORE` for everything that is not learnt."""
    table = np.full(max(int(labels.max(initial=0)), *seen) + 1, IGNORE, dtype=np.int64)
    table[list(seen)] = range(len(seen))
    return table[labels]


class ForDetectron2(nn.Module):
    """A predictor with the interface of detectron2's meta-architectures, in inference."""

    def __init__(self, predictor: Predictor, image_format: str = "RGB") -> None:
        """
        Args:
            predictor: network and decision rule.
            image_format: ``RGB`` or ``BGR``, of the images that will be given; detectron2 reads BGR by default.
        """
        super().__init__()
        self.predictor, self.image_format = predictor, image_format
        self.network = predictor.network

    def forward(self, batched_inputs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Predict.

        Args:
            batched_inputs: each with ``image``, (3, H, W) of values 0…255.
        """
        found = []
        for entry in batched_inputs:
            image = entry["image"].cpu().numpy().transpose(1, 2, 0).astype(np.uint8)
            image = image[..., ::-1] if self.image_format == "BGR" else image
            (prediction,) = self.predictor.predict([np.ascontiguousarray(image)])
            found.append(
                to_outputs(prediction, self.predictor.task, self.predictor.things, len(self.predictor.step.seen))
            )
        return found


def to_outputs(prediction: Prediction, task: str, things: Tensor, classes: int) -> dict[str, Any]:
    """A prediction as detectron2's evaluators and visualiser read it.

    Returns:
        ``sem_seg`` (K, H, W), of which the arg-max is the label map, pixels without a class being 0 everywhere; or
        ``panoptic_seg`` (segment ids, segments_info); or ``instances``.
    """
    if task == "semantic":
        labels = torch.from_numpy(np.ascontiguousarray(prediction.labels))
        return {"sem_seg": nn.functional.one_hot(labels, classes + 1)[..., 1:].permute(2, 0, 1).float()}
    if task == "panoptic":
        assert prediction.ids is not None
        segments = [
            {"id": one.id, "category_id": one.position - 1, "isthing": bool(things[one.position - 1])}
            for one in prediction.segments
        ]
        return {"panoptic_seg": (torch.from_numpy(prediction.ids.astype(np.int32)), segments)}
    structures = _detectron2("structures")
    height, width = prediction.labels.shape
    instances = structures.Instances((height, width))
    masks = (
        np.stack([one.mask for one in prediction.detections])
        if prediction.detections
        else np.zeros((0, height, width), bool)
    )
    instances.pred_masks = torch.from_numpy(masks)
    instances.pred_boxes = structures.BitMasks(instances.pred_masks).get_bounding_boxes()
    instances.scores = torch.tensor([one.score for one in prediction.detections])
    instances.pred_classes = torch.tensor([one.position - 1 for one in prediction.detections], dtype=torch.int64)
    return {"instances": instances}


def from_outputs(outputs: Mapping[str, Any]) -> Prediction:
    """What a model of detectron2 returns for an image, as a prediction of ours.

    Raises:
        Detectron2Error: if it holds none of the three kinds.
    """
    if "panoptic_seg" in outputs:
        ids, listed = outputs["panoptic_seg"]
        drawn = ids.cpu().numpy().astype(np.int32)
        segments = tuple(Segment(int(one["id"]), int(one["category_id"]) + 1) for one in listed)
        labels = np.zeros(drawn.shape, dtype=np.int64)
        for segment in segments:
            labels[drawn == segment.id] = segment.position
        return Prediction(labels, drawn, segments)
    if "instances" in outputs:
        found = outputs["instances"]
        masks = found.pred_masks.cpu().numpy().astype(bool)
        detections = tuple(
            Detection(int(place) + 1, float(score), mask)
            for place, score, mask in zip(found.pred_classes.tolist(), found.scores.tolist(), masks, strict=True)
        )
        return Prediction(np.zeros(masks.shape[1:], dtype=np.int64), detections=detections)
    if "sem_seg" in outputs:
        scores = outputs["sem_seg"].cpu()
        return Prediction(torch.where(scores.amax(dim=0) > 0, scores.argmax(dim=0) + 1, 0).numpy())
    raise Detectron2Error(
        f"the outputs hold {', '.join(outputs) or 'nothing'}; expected sem_seg, panoptic_seg or instances"
    )


def _detectron2(module: str) -> Any:
    try:
        return import_module(f"detectron2.{module}")
    except ImportError:
        raise Detectron2Error(
            "detectron2 is not installed; it comes from its repository: pip install '.[detectron2]'"
        ) from None
