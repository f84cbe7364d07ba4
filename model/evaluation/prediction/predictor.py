"""Predictions of a trained network on any image, by the decision rule of its method.

An image is seen as in the evaluation: at the same size, by the same resampling, padded alike. In semantic segmentation it may be
seen several times, scaled and mirrored; averaged are then the logits of per-pixel networks, and the votes of mask networks (class
probability times mask probability).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from model.data.loading.normalisation import normalise
from model.data.loading.resampling import resize_image
from model.evaluation.evaluators.mask_instance import painted_instances
from model.evaluation.evaluators.mask_prediction import ResizedMasks, Size, seen_size
from model.methods.base import Method
from model.methods.mask.base import MaskMethod
from model.networks.deeplabv3.outputs import PixelOutputs
from model.networks.mask2former.assembly import Masks
from model.networks.mask2former.padding import pad_images
from model.scenario import Step


class PredictionError(ValueError):
    """A prediction that a network cannot make; the message says why."""


@dataclass(frozen=True)
class Segment:
    """One segment of a prediction.

    Attributes:
        id: its value in the map of segments, from 1.
        position: of its class in the learning order, from 1.
    """

    id: int
    position: int


@dataclass(frozen=True)
class Detection:
    """One object.

    Attributes:
        position: of its class in the learning order, from 1.
        score: confidence.
        mask: (H, W) bool.
    """

    position: int
    score: float
    mask: np.ndarray


@dataclass(frozen=True)
class Prediction:
    """What is predicted for an image.

    Attributes:
        labels: (H, W) positions in the learning order, 0 = background or nothing.
        ids: (H, W) segment ids, 0 = none; None in semantic segmentation. Of objects, only those that are shown.
        segments: those of ``ids``.
        detections: all objects, best first; instance segmentation only.
    """

    labels: np.ndarray
    ids: np.ndarray | None = None
    segments: tuple[Segment, ...] = ()
    detections: tuple[Detection, ...] = ()


@dataclass(frozen=True)
class View:
    """One way in which an image is seen.

    Attributes:
        scale: of both sides, relative to the size of the evaluation.
        mirrored: whether left and right are swapped.
    """

    scale: float = 1.0
    mirrored: bool = False


@dataclass(frozen=True)
class Predictor:
    """A network, and how its outputs are read.

    Attributes:
        network: on ``device``, in evaluation mode.
        method: whose decision rule is applied.
        step: after which the network was stored.
        task: semantic, panoptic or instance.
        things: (K,) bool in learning order, True for countable classes.
        device: where the network is.
        size: short side of what the network sees; None: the image as it is.
        longest: upper bound of the long side, of mask networks only; None: four times ``size``.
        views: in which an image is seen; several in semantic segmentation only.
    """

    network: nn.Module
    method: Method[Any, Any]
    step: Step
    task: str
    things: Tensor
    device: torch.device
    size: int | None = None
    longest: int | None = None
    views: tuple[View, ...] = (View(),)

    def __post_init__(self) -> None:
        mask = self.method.family == "mask"
        if not mask and self.task != "semantic":
            raise PredictionError(
                f"a network that labels every pixel predicts semantic segmentation, not {self.task}: leave the task out"
            )
        if len(self.views) > 1 and self.task != "semantic":
            raise PredictionError(
                f"several views of an image are averaged in semantic segmentation only, not in {self.task} segmentation, where "
                "segments of different views would have to be matched: leave out flip and scales"
            )
        if len(self.views) > 1 and mask and not _votes(self.method):
            raise PredictionError(
                "several views cannot be averaged for this method: the query that wins a pixel decides, and queries of different "
                "views do not correspond; leave out flip and scales"
            )

    @torch.inference_mode()
    def predict(self, images: Sequence[np.ndarray], size: Size | None = None) -> list[Prediction]:
        """Predict images of one size together.

        Args:
            images: each (H, W, 3) uint8 RGB.
            size: (height, width) of the predictions; None: that of the images.
        """
        shown = size or (images[0].shape[0], images[0].shape[1])
        return self._masks(images, shown) if self.method.family == "mask" else self._pixels(images, shown)

    # ---------------------------------------------------------------------------------------------------------- per-pixel

    def _pixels(self, images: Sequence[np.ndarray], shown: Size) -> list[Prediction]:
        size = (images[0].shape[0], images[0].shape[1])
        found = []
        for view in self.views:
            factor = view.scale * (1.0 if self.size is None else self.size / min(size))
            height, width = (max(1, round(side * factor)) for side in size)
            seen = [_mirrored(resize_image(image, (height, width)), view.mirrored) for image in images]
            outputs = self.network(torch.from_numpy(np.stack([normalise(image) for image in seen])).to(self.device))
            found.append(_turned_back(outputs) if view.mirrored else outputs)
        coarse = [one.coarse_logits for one in found if one.coarse_logits is not None]
        logits = _mean([one.logits for one in found], shown)
        outputs = replace(found[0], logits=logits, coarse_logits=_mean(coarse) if coarse else None)
        labels = self.method.predict(outputs, self.step).cpu().numpy()
        return [Prediction(one) for one in labels]

    # -------------------------------------------------------------------------------------------------------------- masks

    def _masks(self, images: Sequence[np.ndarray], shown: Size) -> list[Prediction]:
        size = (images[0].shape[0], images[0].shape[1])
        decided = seen_size(size, self.size, self.longest) if self.task == "semantic" else shown
        classes: list[Tensor] = []
        masks: list[list[ResizedMasks]] = [[] for _ in images]
        for view in self.views:
            height, width = (max(1, round(side * view.scale)) for side in seen_size(size, self.size, self.longest))
            seen = [np.asarray(Image.fromarray(i).resize((width, height), Image.Resampling.BILINEAR)) for i in images]
            turned = [torch.from_numpy(normalise(_mirrored(image, view.mirrored))) for image in seen]
            padded = pad_images(turned).to(self.device)
            outputs = self.network(padded)
            found = self.method.predict(outputs, self.step)
            whole = (padded.shape[2], padded.shape[3])
            classes.append(found.logits)
            for kept, logits in zip(masks, found.masks, strict=True):
                kept.append(ResizedMasks(logits, whole, (height, width), decided, outputs.mask_activation))
        # Votes are sums over queries: the mean over views is the vote of the queries of all of them.
        together = torch.cat(classes, dim=1)
        return [self._read(logits, self._of_views(one), shown) for logits, one in zip(together, masks, strict=True)]

    def _of_views(self, masks: Sequence[ResizedMasks]) -> Masks:
        """The mask probabilities of all views; of a single one they are computed for those queries only that count."""
        if len(masks) == 1 and not self.views[0].mirrored:
            return masks[0]
        every = zip(masks, self.views, strict=True)
        return torch.cat([one[:].flip(-1) if view.mirrored else one[:] for one, view in every])

    def _read(self, logits: Tensor, masks: Masks, size: Size) -> Prediction:
        method: Any = self.method
        if self.task == "semantic":
            return Prediction(method.semantic(logits, masks, size, len(self.step.seen)).cpu().numpy())
        if self.task == "panoptic":
            ids, found = method.panoptic(logits, masks, self.things)
            segments = tuple(Segment(one.id, one.category + 1) for one in found)
            return _of_segments(ids.cpu().numpy(), segments)
        objects = method.instances(logits, masks)
        drawn, positions = painted_instances(objects)
        detections = tuple(
            Detection(position + 1, score, mask)
            for position, score, mask in zip(
                objects.classes.tolist(), objects.scores.tolist(), objects.masks.cpu().numpy(), strict=True
            )
        )
        shown = _of_segments(drawn, tuple(Segment(number, position) for number, position in positions))
        return replace(shown, detections=detections)


def _votes(method: Method[Any, Any]) -> bool:
    """Whether all queries of a mask network vote on every pixel in this method's reading."""
    if not isinstance(method, MaskMethod) or type(method).semantic is not MaskMethod.semantic:
        return False
    return method.semantic_reading == "votes"


def _mirrored(image: np.ndarray, mirrored: bool) -> np.ndarray:
    return np.ascontiguousarray(image[:, ::-1]) if mirrored else image


def _turned_back(outputs: PixelOutputs) -> PixelOutputs:
    """What decision rules read of the outputs for mirrored images, mirrored once more."""
    coarse = None if outputs.coarse_logits is None else outputs.coarse_logits.flip(-1)
    return replace(outputs, logits=outputs.logits.flip(-1), coarse_logits=coarse)


def _mean(maps: Sequence[Tensor], size: Size | None = None) -> Tensor:
    """The mean of (B, K, h, w) maps at one size, by default that of the first; a single map of that size is left as it is."""
    size = (maps[0].shape[2], maps[0].shape[3]) if size is None else size
    resized = [
        one
        if (one.shape[2], one.shape[3]) == size
        else functional.interpolate(one, size, mode="bilinear", align_corners=False)
        for one in maps
    ]
    return resized[0] if len(resized) == 1 else torch.stack(resized).mean(dim=0)


def _of_segments(ids: np.ndarray, segments: tuple[Segment, ...]) -> Prediction:
    """A map of segments with the classes that go with it."""
    table = np.zeros(max((one.id for one in segments), default=0) + 1, dtype=np.int64)
    for one in segments:
        table[one.id] = one.position
    return Prediction(table[ids], ids, segments)
