"""Costs of runs, from made-up records of their trainings (those of a real run: tests/workflow/test_micro.py)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from model.config.reading import parse_config
from model.data.sources.shapes import Shapes
from model.reporting.costs import COST_COLUMNS, cost_rows
from model.reporting.records import RecordError
from model.workflow.plan import Plan

IMAGES = 4


@pytest.fixture
def finished(tmp_path: Path) -> Plan:
    """A plan of three runs whose trainings left records; seconds and iterations grow with the step."""
    Shapes(train_images=IMAGES, val_images=1, stuff=3, things=3).prepare(tmp_path / "data/toy", "toy", 1)
    plan = Plan(
        parse_config(
            {
                "schema_version": 1,
                "datasets": {
                    "toy": {"kind": "shapes", "stuff": 3, "things": 3, "train_images": IMAGES, "val_images": 1}
                },
                "recipes": {
                    "small": {
                        "family": "per-pixel",
                        "network": {"name": "deeplabv3", "backbone": "tiny"},
                        "optimiser": {"name": "sgd", "learning_rate": 0.1},
                        "base": {"iterations": 10},
                        "increment": {"iterations": 5},
                        "batch_size": 2,
                        "transform": {"name": "full-image"},
                    }
                },
                "experiments": [
                    {
                        "dataset": "toy",
                        "scenarios": ["2-2"],
                        "recipe": "small",
                        "methods": ["joint", "finetuning", "finetuning-replay"],
                        "memory": {"selection": "random", "size": 2},
                    }
                ],
            }
        )
    )
    for training in plan.trainings.values():
        step = training.split.step.index
        record = {
            "parameters": 1000 + step, "trainable_parameters": 900 + step, "state_bytes": 8 * step,
            "iterations": 10 + step, "seconds": 1.0 + step, "peak_memory": {"resident_bytes": 1 << step},
        }  # fmt: skip
        write(tmp_path / training.directory / "train.json", record)
    for memory in plan.memories.values():
        write(tmp_path / memory.file, {"images": [{"id": f"ADE_train_{n + 1:08d}"} for n in range(memory.step.index)]})
    return plan


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def test_increments_add_up_and_the_base_step_stands_apart(tmp_path: Path, finished: Plan) -> None:
    costs = cost_rows(finished.runs, tmp_path)
    assert tuple(costs.columns) == COST_COLUMNS
    of = costs.set_index("method")
    for method in ("finetuning", "finetuning-replay"):
        assert of.loc[method, ["parameters", "trainable_parameters", "state_bytes"]].tolist() == [1002, 902, 16]
        assert of.loc[method, ["iterations", "seconds", "base_seconds"]].tolist() == [23, 5.0, 1.0]
        assert of.loc[method, "peak_resident_bytes"] == 4
    assert of.loc["joint", ["iterations", "seconds", "base_seconds"]].tolist() == [0, 0.0, 1.0]


def test_exemplars_are_those_of_the_last_step(tmp_path: Path, finished: Plan) -> None:
    of = cost_rows(finished.runs, tmp_path).set_index("method")
    assert of["exemplars"].to_dict() == {"joint": 0, "finetuning": 0, "finetuning-replay": 2}
    folder = tmp_path / "data/toy"
    names = ["ADE_train_00000001", "ADE_train_00000002"]
    files = [folder / f"raw/images/training/{name}.png" for name in names]
    files += [folder / f"semantic/train/{name}.png" for name in names]
    assert of.loc["finetuning-replay", "exemplar_bytes"] == sum(file.stat().st_size for file in files)
    assert of.loc["finetuning", "exemplar_bytes"] == 0


@pytest.mark.parametrize(("content", "message"), [(None, "does not exist"), ("{", "is damaged")])
def test_a_bad_record_is_named(tmp_path: Path, finished: Plan, content: str | None, message: str) -> None:
    file = tmp_path / finished.runs[1].trainings[-1].directory / "train.json"
    file.unlink() if content is None else file.write_text(content)
    with pytest.raises(RecordError, match=f"{file.parent.name}/train.json {message}"):
        cost_rows(finished.runs, tmp_path)
