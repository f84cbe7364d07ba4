"""What is known about a checkpoint: names and colours of its classes, its task, and how its network is evaluated.

Looked for in this order: the prepared dataset (named, or in the results folder that the checkpoint lies in), the record of an
evaluation beside the checkpoint, the checkpoint itself.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from model.data.prepared.dataset import DATASET, Category, PreparedDataset
from model.data.sources.colors import class_color
from model.evaluation.evaluators.pictures import UNLABELLED, nothing
from model.evaluation.job import load_evaluated
from model.evaluation.prediction.predictor import Predictor, View
from model.methods import registry as methods
from model.methods.base import Method
from model.networks.folding import folded_copy
from model.reporting.records import EvaluationRecord, RecordError
from model.scenario import Step
from model.training.checkpoint import Checkpoint, CheckpointError


class StoredNetworkError(ValueError):
    """A checkpoint about which too little is known to use it; the message says what to give."""


@dataclass(frozen=True)
class StoredNetwork:
    """A checkpoint, and how to read what its network says.

    Attributes:
        checkpoint: as it was read.
        classes: of the checkpoint, in learning order.
        nothing: value in label maps of pixels without a class.
        has_background: whether pixels without a class are the background, rather than nothing.
        knows_things: whether it is known which classes are countable.
        step: after which the checkpoint was written.
        task: semantic, panoptic or instance.
        method: with the hyper-parameters of its decision rule.
        size, longest: at which the network is evaluated; None if that is unknown, or the size of the image.
        source: where names and method come from, for people.
    """

    checkpoint: Checkpoint
    classes: tuple[Category, ...]
    nothing: int
    has_background: bool
    knows_things: bool
    step: Step
    task: str
    method: Method[Any, Any]
    size: int | None
    longest: int | None
    source: str

    def predictor(
        self,
        path: Path,
        device: torch.device,
        size: int | None = None,
        views: tuple[View, ...] = (View(),),
        trusted: str | None = None,
    ) -> Predictor:
        """The network, ready to predict.

        Args:
            path: of the checkpoint.
            device: where it is to run.
            size: short side of what the network sees; None: that of its evaluation.
            views: in which an image is seen.
            trusted: network of another package whose code may be run.

        Raises:
            StoredNetworkError: if a panoptic prediction has to know which classes are countable.
            PredictionError: if the network cannot predict the task, or not from several views.
        """
        if self.task == "panoptic" and not self.knows_things:
            raise StoredNetworkError(
                f"{path}: it is not known which classes are countable; give the prepared dataset with --data"
            )
        return Predictor(
            folded_copy(load_evaluated(path, self.step, trusted).to(device)).eval(),
            self.method,
            self.step,
            self.task,
            torch.tensor([category.isthing for category in self.classes]),
            device,
            size or self.size,
            None if size else self.longest,
            views,
        )


def one_file(text: str) -> Path:
    """The file that a name or a pattern means.

    Raises:
        CheckpointError: if it means several.
    """
    path = Path(text).expanduser()
    found = [] if path.exists() else sorted(glob.glob(str(path)))
    if len(found) > 1:
        raise CheckpointError(f"{text}: {len(found)} files match, such as {found[0]} and {found[1]}; name one of them")
    return Path(found[0]) if found else path


def describe(path: Path, checkpoint: Checkpoint, data: Path | None = None, task: str | None = None) -> StoredNetwork:
    """Find out what a checkpoint's numbers mean.

    Args:
        path: of the checkpoint.
        checkpoint: its content.
        data: prepared dataset, its folder or its ``dataset.json``; None: the one in the checkpoint's results folder.
        task: None: that of the training.

    Raises:
        StoredNetworkError: if the description in the checkpoint is not one of Segue's, or the dataset lacks a class.
        ValueError: if the dataset cannot be read, or the method does not exist.
    """
    spec = checkpoint.spec
    try:
        family = spec["recipe"]["family"]
        trained, given = spec["method"]["name"], dict(spec["method"]["hyper_parameters"])
        name, own_task = str(spec["dataset"]), str(spec["task"])
        step = Step(checkpoint.step, tuple(spec["step"]["past"]), tuple(spec["step"]["current"]))
    except (KeyError, TypeError):
        raise StoredNetworkError(
            f"{path}: it does not tell dataset, task and method; give a checkpoint of Segue"
        ) from None
    record = _record(path, checkpoint, trained)
    size = longest = None
    if record is not None:
        evaluated = record.made_by["spec"]
        size, longest = evaluated.get("size"), evaluated.get("longest")
        if trained == evaluated["method"]["name"]:
            given |= evaluated["method"]["hyper_parameters"]
        else:
            trained, given = evaluated["method"]["name"], dict(evaluated["method"]["hyper_parameters"])
    if ":" in trained and record is None:
        raise StoredNetworkError(
            f"{path}: was trained by '{trained}' of another package, and code that a file names is not run; keep the checkpoint "
            "beside its evaluation, as the workflow left it"
        )
    dataset = _dataset(path, name, data)
    things = True
    if dataset is not None:
        known = {category.id: category for category in dataset.categories}
        source = str(dataset.folder)
    elif record is not None:
        known = {i: Category(i, text, i in record.things, class_color(i)) for i, text in record.names.items()}
        source = "its evaluation"
    else:
        known = {one.id: one for one in _categories(spec.get("categories"))}
        things, source = bool(known), "the checkpoint"
        known = known or {i: Category(i, f"class {i}", False, class_color(i)) for i in checkpoint.classes}
    if strange := [i for i in checkpoint.classes if i not in known]:
        raise StoredNetworkError(
            f"{path}: knows class {strange[0]}, which {source} has not; give its own dataset with --data"
        )
    return StoredNetwork(
        checkpoint,
        tuple(known[i] for i in checkpoint.classes),
        nothing(dataset) if dataset is not None else 0 if 0 not in known else UNLABELLED,
        dataset is not None and dataset.background_id is not None,
        things,
        step,
        task or own_task,
        methods.build(trained, given, family),
        size,
        longest,
        source,
    )


def _record(path: Path, checkpoint: Checkpoint, method: str) -> EvaluationRecord | None:
    """A record of an evaluation of the checkpoint; one that used its own method is preferred."""
    found = [record for record in _records(path) if record.classes == checkpoint.classes]
    return min(found, key=lambda record: record.made_by["spec"]["method"]["name"] != method, default=None)


def _records(path: Path) -> Iterator[EvaluationRecord]:
    for file in sorted(path.resolve().parent.glob("evaluation/*/evaluation.json")):
        try:
            record = EvaluationRecord.read(file)
            if record.made_by["spec"]["method"]["name"]:
                yield record
        except (RecordError, KeyError, TypeError):
            continue


def _dataset(path: Path, name: str, data: Path | None) -> PreparedDataset | None:
    if data is not None:
        return PreparedDataset.open(data.parent if data.name == DATASET else data)
    for folder in path.resolve().parents:
        found = folder / "data" / name
        if (found / DATASET).is_file():
            return PreparedDataset.open(found)
    return None


def _categories(rows: Any) -> Iterator[Category]:
    """The class table that a checkpoint of elsewhere carries."""
    if not isinstance(rows, list):
        return
    for row in rows:
        if not (isinstance(row, Mapping) and type(row.get("id")) is int and isinstance(row.get("name"), str)):
            raise CheckpointError("the checkpoint's entry 'categories' is not a class table; make it again")
        yield Category(row["id"], row["name"], bool(row.get("isthing")), class_color(row["id"]))
