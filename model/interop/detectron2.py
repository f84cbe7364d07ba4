"""detectron2 as a partner: our networks for its predictors, evaluators and visualiser; predictions and weights both ways.

detectron2 is optional and imported only where one of its own types is made. Contiguous ids, as it calls its class numbers, are
places in the learning order: from 1 in semantic segmentation, where 0 is the background or nothing, and from 0 where segments
or objects are predicted. Datasets: :mod:`model.interop.detectron2_datasets`.

Source: detectron2's documentation of its model interface.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from model.evaluation.prediction.predictor import Detection, Prediction, Predictor, Segment
from model.interop.official_names import fill, with_versions
from model.networks.mask2former.released_weights import current_names


class Detectron2Error(ValueError):
    """detectron2 is not installed, or what it was given cannot be expressed."""


class ForDetectron2(nn.Module):
    """A predictor with the interface of detectron2's meta-architectures, in inference.

    Its state dict is that of the network, under the names of the released Mask2Former, so that ``DetectionCheckpointer`` reads
    and writes files of either.
    """

    def __init__(self, predictor: Predictor, image_format: str = "BGR") -> None:
        """
        Args:
            predictor: network and decision rule.
            image_format: ``RGB`` or ``BGR``, of the images that will be given; ``INPUT.FORMAT`` of detectron2's configuration.

        Raises:
            Detectron2Error: for another format.
        """
        super().__init__()
        if image_format not in ("RGB", "BGR"):
            raise Detectron2Error(f"INPUT.FORMAT is '{image_format}'; networks of Segue take RGB or BGR")
        self.predictor, self.image_format = predictor, image_format
        self.network = predictor.network

    def forward(self, batched_inputs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Predict.

        Args:
            batched_inputs: each with ``image``, (3, H, W) of values 0…255, and ``height`` and ``width`` of the prediction
                if it is to be of another size.

        Returns:
            For each image what :func:`to_outputs` makes of its prediction.
        """
        device = next(self.network.parameters()).device
        predictor = self.predictor if self.predictor.device == device else replace(self.predictor, device=device)
        found = []
        for entry in batched_inputs:
            image = entry["image"].cpu().float().round().clamp(0, 255).to(torch.uint8).numpy().transpose(1, 2, 0)
            image = image[..., ::-1] if self.image_format == "BGR" else image
            size = int(entry.get("height", image.shape[0])), int(entry.get("width", image.shape[1]))
            (prediction,) = predictor.predict([np.ascontiguousarray(image)], size)
            found.append(to_outputs(prediction, predictor.task, predictor.things))
        return found

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Of the network, with the version of its names, without which the released code takes them for older ones."""
        return with_versions(self.network.state_dict(*args, **kwargs))

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Fill the network, completely or not at all; constants of the released losses are ignored.

        Raises:
            ValueError: naming the first weights that are missing, left over, or of another shape.
        """
        fill(self.network, current_names(state_dict), "the weights that detectron2 has read")
        return nn.Module().load_state_dict({})


def register_network(name: str, predictor: Predictor) -> None:
    """Make a network one of detectron2's meta-architectures: ``MODEL.META_ARCHITECTURE`` may be its name.

    Args:
        name: not one of detectron2's.
        predictor: of a network that is not folded, if ``MODEL.WEIGHTS`` are to be read into it.

    Raises:
        Detectron2Error: if detectron2 is not installed, or the name is taken.
    """
    registry = imported("modeling").META_ARCH_REGISTRY
    if name in registry:
        raise Detectron2Error(f"detectron2 has a meta-architecture '{name}' already; choose another name")

    def build(configuration: Any) -> ForDetectron2:
        return ForDetectron2(predictor, configuration.INPUT.FORMAT)

    build.__name__ = name
    registry.register(build)


def to_outputs(prediction: Prediction, task: str, things: Tensor) -> dict[str, Any]:
    """A prediction as detectron2's evaluators and visualiser read it.

    Args:
        prediction: of an image.
        task: semantic, panoptic or instance.
        things: (K,) bool in learning order, True for countable classes.

    Returns:
        ``sem_seg`` (K + 1, H, W), 1 for the predicted class of a pixel and 0 for all others, the background first; or
        ``panoptic_seg`` (segment ids, segments_info); or ``instances``.

    Raises:
        Detectron2Error: if ``Instances`` are needed and detectron2 is not installed.
    """
    if task == "semantic":
        labels = torch.from_numpy(np.ascontiguousarray(prediction.labels, dtype=np.int64))
        scores = torch.zeros(len(things) + 1, *labels.shape)
        return {"sem_seg": scores.scatter_(0, labels[None], 1.0)}
    if task == "panoptic":
        assert prediction.ids is not None
        segments = [
            {"id": one.id, "category_id": one.position - 1, "isthing": bool(things[one.position - 1])}
            for one in prediction.segments
        ]
        return {"panoptic_seg": (torch.from_numpy(prediction.ids.astype(np.int32)), segments)}
    structures = imported("structures")
    height, width = prediction.labels.shape
    instances = structures.Instances((height, width))
    masks = [one.mask for one in prediction.detections]
    instances.pred_masks = torch.from_numpy(np.stack(masks) if masks else np.zeros((0, height, width), bool))
    instances.pred_boxes = structures.BitMasks(instances.pred_masks).get_bounding_boxes()
    instances.scores = torch.tensor([one.score for one in prediction.detections])
    instances.pred_classes = torch.tensor([one.position - 1 for one in prediction.detections], dtype=torch.int64)
    return {"instances": instances}


def from_outputs(outputs: Mapping[str, Any], background: bool = True) -> Prediction:
    """What a model of detectron2 returns for an image, as a prediction of ours.

    Args:
        outputs: with ``panoptic_seg``, ``instances`` or ``sem_seg``; of several the first in this order is taken.
        background: whether the first class of ``sem_seg`` is the background, as in :func:`to_outputs`; otherwise it is
            the first class learnt.

    Raises:
        Detectron2Error: if it holds none of the three kinds.
    """
    if "panoptic_seg" in outputs:
        ids, listed = outputs["panoptic_seg"]
        if listed is None:
            raise Detectron2Error(
                "panoptic_seg comes without segments_info, as Panoptic-DeepLab's; give (segment ids, segments_info)"
            )
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
        labels = outputs["sem_seg"].argmax(dim=0).cpu().numpy()
        return Prediction(labels if background else labels + 1)
    raise Detectron2Error(
        f"the outputs hold {', '.join(outputs) or 'nothing'}; expected sem_seg, panoptic_seg or instances"
    )


def imported(module: str) -> Any:
    """A module of detectron2.

    Raises:
        Detectron2Error: if it is not installed.
    """
    try:
        return import_module(f"detectron2.{module}")
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "detectron2":
            raise Detectron2Error(f"detectron2 cannot be imported ({error}); install what it needs") from None
        raise Detectron2Error(
            "detectron2 is not installed; it comes from its repository: pip install '.[detectron2]'"
        ) from None
