"""Scores of a network while it trains, for recipes that keep the best network of a step (``keep_best``)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from model.data.prepared.dataset import PreparedDataset
from model.evaluation.evaluators import registry as evaluators
from model.evaluation.evaluators.base import EvaluationInputs
from model.evaluation.metrics.confusion import ConfusionMatrix
from model.evaluation.metrics.mean_iou import semantic_scores
from model.evaluation.protocols import get
from model.training.job import build_method
from model.training.spec import TrainingSpec


def validation_score(
    spec: TrainingSpec, data: Path, device: torch.device, workers: int
) -> Callable[[nn.Module], float | None]:
    """The function that scores a network: mIoU (%) of the classes of the step, or of all so far, on the validation images.

    Args:
        spec: of a training whose recipe has ``keep_best``.
        data: folder of the prepared dataset.
        device: where the network is.
        workers: processes that read images.

    Raises:
        EvaluatorError: for a protocol that the family cannot be evaluated under.
    """
    wanted, step = spec.recipe.keep_best, spec.step.step
    assert wanted is not None
    dataset, protocol, method = PreparedDataset.open(data), get(wanted.protocol), build_method(spec)
    evaluators.check_protocol(spec.recipe.family, spec.task, protocol)
    group = {"new": step.current, "all": step.seen}[wanted.group]

    def score(network: nn.Module) -> float | None:
        inputs = EvaluationInputs(
            network=network,
            method=method,
            step=step,
            dataset=dataset,
            split="val",
            protocol=protocol,
            size=None,
            batch_size=spec.recipe.batch_size,
            device=device,
            workers=workers,
        )
        counts = evaluators.evaluate(spec.recipe.family, spec.task, inputs).counts
        assert isinstance(counts, ConfusionMatrix)
        groups = semantic_scores(counts, {wanted.group: group}, protocol, dataset.background_is_labelled).groups
        return groups.get(wanted.group, {}).get("mIoU")

    return score
