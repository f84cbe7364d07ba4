"""Named protocols: how each code base evaluates predictions, as plain values.

The numbers of two papers are comparable only if they were evaluated the same way. A :class:`Protocol` spells this way out; the
evaluation stores raw counts, to which any protocol with the same geometry can be applied.
``docs/evaluation.md`` gives the reasons and the sources.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

EVERY_GROUP = ("old", "past", "current", "all")
"""Groups that can contain the base step, and hence the background."""


class ProtocolError(ValueError):
    """A protocol that is not defined."""


@dataclass(frozen=True)
class BackgroundPolicy:
    """How a confusion matrix becomes mean IoU.

    Attributes:
        future_classes: treatment of pixels of classes not learnt yet.
        background_pixels: whether pixels with the dataset's background label are evaluated at all.
        background_groups: groups whose mean includes the background as one more class of the base step.
        average_over: the classes of a group that the mean is taken over: those with ground-truth pixels, those with
            ground-truth or predicted pixels, or every class (absent ones as 0).
        epsilon: added to the denominators of IoU and class accuracy, as the released programs do.
    """

    future_classes: Literal["ignore", "background"]
    background_pixels: Literal["count", "ignore"]
    background_groups: tuple[str, ...] = ()
    average_over: Literal["ground truth", "ground truth or prediction", "every class"] = "ground truth"
    epsilon: float = 0.0


@dataclass(frozen=True)
class Geometry:
    """The size at which predictions are compared.

    Attributes:
        kind: ``full`` compares at the original size; ``resize`` scales image and labels (nearest neighbour) so that the
            short side is ``size``; ``resize-crop`` also crops the central ``size`` × ``size`` square.
        size: pixels, None for ``full``.
    """

    kind: Literal["full", "resize", "resize-crop"]
    size: int | None = None


@dataclass(frozen=True)
class Protocol:
    """One way to evaluate a continual segmentation method.

    Attributes:
        name: as written in the configuration and in the tables.
        labelled_background: policy for datasets whose background is annotated (a background pixel belongs to none of the
            classes, as in Pascal VOC).
        unlabelled_background: policy for datasets whose background is merely unlabelled ("other" of ADE20K).
        geometry: size at which label maps are compared.
        images: every validation image, or only those with at least one class learnt so far.
        unseen_segments: treatment of ground-truth segments of classes not learnt yet in panoptic quality. ``void``: their
            pixels are not evaluated; ``drop``: the segments are removed but their pixels are evaluated, so predictions there
            are false positives; ``keep``: they stay, as false negatives of a class without a prediction.
        segment_areas: areas of true segments in panoptic quality. ``counted``: their pixels in the map; ``annotation``: those
            of the annotation, which in ADE20K counted stuff before things were painted over it, as in published numbers.
        source: where the rules were taken from.
    """

    name: str
    labelled_background: BackgroundPolicy
    unlabelled_background: BackgroundPolicy
    geometry: Geometry
    images: Literal["all", "seen"]
    unseen_segments: Literal["void", "drop", "keep"]
    segment_areas: Literal["counted", "annotation"]
    source: str

    def background_policy(self, background_is_labelled: bool) -> BackgroundPolicy:
        """The policy for a dataset whose background is annotated, or is not."""
        return self.labelled_background if background_is_labelled else self.unlabelled_background


_EPSILON = 1e-6

_SSUL = BackgroundPolicy("ignore", "count", EVERY_GROUP, "every class", _EPSILON)
_PLOP = BackgroundPolicy("background", "count", EVERY_GROUP, "ground truth", _EPSILON)

_PROTOCOLS = (
    Protocol(
        name="segue",
        labelled_background=BackgroundPolicy("ignore", "count"),
        unlabelled_background=BackgroundPolicy("ignore", "ignore"),
        geometry=Geometry("full"),
        images="all",
        unseen_segments="void",
        segment_areas="counted",
        source="this project: a common protocol for all families",
    ),
    Protocol(
        name="mib",
        labelled_background=BackgroundPolicy("ignore", "count", average_over="ground truth", epsilon=_EPSILON),
        unlabelled_background=BackgroundPolicy("ignore", "ignore", average_over="ground truth", epsilon=_EPSILON),
        geometry=Geometry("resize-crop", 512),
        images="seen",
        unseen_segments="void",
        segment_areas="annotation",
        source="MiB (CVPR 2020), released code and paper tables",
    ),
    Protocol(
        name="sdr",
        labelled_background=BackgroundPolicy("ignore", "count", EVERY_GROUP, "ground truth", _EPSILON),
        unlabelled_background=BackgroundPolicy("ignore", "ignore", average_over="ground truth", epsilon=_EPSILON),
        geometry=Geometry("resize-crop", 512),
        images="seen",
        unseen_segments="void",
        segment_areas="annotation",
        source="SDR (CVPR 2021), released code and paper tables",
    ),
    Protocol(
        name="plop",
        labelled_background=_PLOP,
        unlabelled_background=_PLOP,
        geometry=Geometry("resize-crop", 512),
        images="seen",
        unseen_segments="void",
        segment_areas="annotation",
        source="PLOP (CVPR 2021), released code",
    ),
    Protocol(
        name="dkd-star",
        labelled_background=BackgroundPolicy("background", "count", EVERY_GROUP, "every class", -_EPSILON),
        unlabelled_background=BackgroundPolicy("ignore", "count", EVERY_GROUP, "every class", -_EPSILON),
        geometry=Geometry("resize-crop", 512),
        images="seen",
        unseen_segments="void",
        segment_areas="annotation",
        source="DKD (NeurIPS 2022) and STAR (NeurIPS 2023), released code",
    ),
    Protocol(
        name="ssul-barm",
        labelled_background=_SSUL,
        unlabelled_background=_SSUL,
        geometry=Geometry("resize-crop", 513),
        images="all",
        unseen_segments="void",
        segment_areas="annotation",
        source="SSUL (NeurIPS 2021) and BARM (ECCV 2024), released code",
    ),
    Protocol(
        name="balconpas",
        labelled_background=BackgroundPolicy("ignore", "ignore"),
        unlabelled_background=BackgroundPolicy("ignore", "ignore"),
        geometry=Geometry("full"),
        images="seen",
        unseen_segments="drop",
        segment_areas="annotation",
        source="BalConpas (ECCV 2024), released code",
    ),
    Protocol(
        name="comformer",
        labelled_background=BackgroundPolicy("background", "count", ("all",)),
        unlabelled_background=BackgroundPolicy("background", "count", ("all",)),
        geometry=Geometry("resize", 512),
        images="all",
        unseen_segments="keep",
        segment_areas="annotation",
        source="CoMFormer (CVPR 2023) and ECLIPSE (CVPR 2024), released code",
    ),
)

PROTOCOLS = {protocol.name: protocol for protocol in _PROTOCOLS}
"""Every protocol by name."""


def known() -> tuple[str, ...]:
    """Names of all protocols."""
    return tuple(PROTOCOLS)


def get(name: str) -> Protocol:
    """The protocol with this name.

    Raises:
        ProtocolError: if there is none.
    """
    if name not in PROTOCOLS:
        raise ProtocolError(f"'{name}' is not an evaluation protocol; choose from {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
