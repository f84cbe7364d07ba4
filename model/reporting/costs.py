"""What a run costs: parameters, storage for replay, time. One row per run, from the records of its trainings."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from model.data.prepared.dataset import PreparedDataset
from model.reporting.records import RecordError
from model.workflow.jobs import Run

COST_COLUMNS = (
    "dataset", "task", "scenario", "setting", "recipe", "method", "seed",
    "parameters", "trainable_parameters", "exemplars", "exemplar_bytes", "state_bytes",
    "iterations", "seconds", "base_seconds", "peak_resident_bytes", "peak_gpu_bytes", "kept",
)  # fmt: skip


def cost_rows(runs: Iterable[Run], results: Path, kept: Container[tuple[Any, ...]] = ()) -> pd.DataFrame:
    """Costs of finished runs.

    Args:
        runs: the runs of a plan.
        results: folder that their paths are relative to.
        kept: keys of runs of which something was accepted under other code or another configuration than made it.

    Returns:
        Columns :data:`COST_COLUMNS`, sorted. ``parameters`` are those of the network after the last step and
        ``trainable_parameters`` those that its last training changed. ``exemplars`` (images) are what the last step
        replayed; their bytes are the encoded image and label files. ``state_bytes`` is the size of the tensors that the
        method keeps besides the network: prototypes, statistics, importances. ``iterations`` and ``seconds`` (wall clock;
        of an interrupted training all that led to its result, without iterations that were lost and done again) are
        summed over the increments; the base step is in ``base_seconds``, since other runs share it, and so is a joint
        run's only training. Peak memory is the maximum over the trainings, on the GPU 0 where there was
        none. ``kept`` is 1 for the runs in ``kept``, else 0.

    Raises:
        RecordError: if a training's record is missing or damaged.
    """
    opened: dict[str, PreparedDataset] = {}
    rows = []
    for run in runs:
        dataset = opened.setdefault(run.dataset, PreparedDataset.open(results / "data" / run.dataset))
        records = [_read(results / training.directory / "train.json") for training in run.trainings]
        last = run.trainings[-1]
        memory = None if last.memory is None else _read(results / last.memory.file)
        exemplars = [] if memory is None else [image["id"] for image in memory["images"]]
        rows.append(
            (
                run.dataset, run.task, run.scenario.name, run.setting, run.recipe, run.method, run.seed,
                records[-1]["parameters"],
                records[-1]["trainable_parameters"],
                len(exemplars),
                sum(stored_bytes(dataset, run.task, image) for image in exemplars),
                records[-1]["state_bytes"],
                sum(record["iterations"] for record in records[1:]),
                sum(record["seconds"] for record in records[1:]),
                records[0]["seconds"],
                max(record["peak_memory"]["resident_bytes"] for record in records),
                max(record["peak_memory"].get("gpu_bytes", 0) for record in records),
                int(run.key in kept),
            )
        )  # fmt: skip
    frame = pd.DataFrame(rows, columns=list(COST_COLUMNS))
    return frame.sort_values(list(COST_COLUMNS[:7]), ignore_index=True)


def stored_bytes(dataset: PreparedDataset, task: str, image_id: str) -> int:
    """Bytes of a training image and its label map on disk; instances share one file for all images."""
    record = dataset.record("train", image_id)
    label_files = {"semantic": dataset.semantic_file, "panoptic": dataset.panoptic_file}
    files = [record.file]
    if task in label_files:
        files.append(label_files[task]("train", record))
    return sum(file.stat().st_size for file in files)


def _read(path: Path) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecordError(f"{path} does not exist: this training has not been run") from None
    except ValueError:
        raise RecordError(f"{path} is damaged: it is not JSON; delete it, and its training runs again") from None
    return found
