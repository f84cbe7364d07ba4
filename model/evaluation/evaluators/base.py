"""The interface of the evaluators: a network, evaluated on every image of a split under one protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from typing import Protocol as Interface

import numpy as np
import torch
from torch import nn

from model.data.prepared.dataset import PreparedDataset
from model.evaluation.protocols import Protocol
from model.scenario import Step


@dataclass(frozen=True)
class EvaluationInputs:
    """What to evaluate, and how.

    Attributes:
        network: on ``device``.
        method: whose decision rule is applied.
        step: after which the network is evaluated.
        dataset: prepared dataset.
        split: e.g. ``val``.
        protocol: how to evaluate.
        size: short side of the images the network sees; None: the size at which they are compared.
        batch_size: images per batch.
        device: where the network is.
        workers: processes that load images.
        shown: number of images whose predictions are kept for the gallery.
        longest: upper bound of the long side, of mask networks only; None: four times ``size``.
    """

    network: nn.Module
    method: Any
    step: Step
    dataset: PreparedDataset
    split: str
    protocol: Protocol
    size: int | None
    batch_size: int
    device: torch.device
    workers: int = 0
    shown: int = 0
    longest: int | None = None

    @property
    def shown_names(self) -> frozenset[str]:
        """Ids of the images kept for the gallery, evenly spread over the split."""
        return frozenset(evenly_spread([record.id for record in self.dataset.records(self.split)], self.shown))

    def things(self) -> torch.Tensor:
        """(K,) bool: which of the known classes are countable."""
        countable = {category.id for category in self.dataset.categories if category.isthing}
        return torch.tensor([category in countable for category in self.step.seen])


class Counts(Interface):
    """Raw counts, from which scores under other protocols can be computed."""

    def save(self, path: Path) -> None:
        """Write one npz file; equal counts give equal bytes."""


@dataclass(frozen=True)
class EvaluationResult:
    """The result of an evaluation.

    Attributes:
        kind: what ``counts`` is, a key of :attr:`model.reporting.records.EvaluationRecord.files`.
        counts: raw counts.
        per_class: metric → class key → value in percent; None if the class does not occur.
        images: number of images evaluated.
        pictures: arrays for the gallery (:mod:`model.evaluation.evaluators.pictures`).
        headline: one line for the log.
    """

    kind: str
    counts: Counts
    per_class: Mapping[str, Mapping[str, float | None]]
    images: int
    pictures: Mapping[str, np.ndarray]
    headline: str


class Evaluator(Interface):
    """A function that evaluates a network on a task."""

    def __call__(self, inputs: EvaluationInputs) -> EvaluationResult:
        """Evaluate every image and count."""


def evenly_spread(names: Sequence[str], count: int) -> tuple[str, ...]:
    """At most ``count`` evenly spaced names, e.g. the images of a gallery."""
    if count <= 0 or not names:
        return ()
    places = np.linspace(0, len(names) - 1, min(count, len(names))).round().astype(int)
    return tuple(names[place] for place in dict.fromkeys(places.tolist()))
