"""Curves in other programs: off by default, the same run after an interruption, and never the end of a training."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, ClassVar

import pytest

from model.training import trackers
from model.training.progress import Progress
from model.training.trackers import TRACKERS, TrackerError, Trackers, wanted_trackers

SETTINGS = {"method": {"name": "mib", "hyper_parameters": {"distillation_weight": 10.0}}, "seed": 0}


class Recorded:
    """A package that remembers what it is told, across runs."""

    runs: ClassVar[dict[str, list[tuple[int, dict[str, float]]]]] = {}
    closed: ClassVar[list[tuple[str, bool]]] = []

    def __init__(self, work: Path, title: str, identity: str | None, settings: Any) -> None:
        self.identity = identity or f"run{len(self.runs)}"
        self.runs.setdefault(self.identity, [])

    def log(self, iteration: int, values: dict[str, float]) -> None:
        self.runs[self.identity].append((iteration, dict(values)))

    def close(self, completed: bool) -> None:
        self.closed.append((self.identity, completed))


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> type[Recorded]:
    monkeypatch.setattr(Recorded, "runs", {})
    monkeypatch.setattr(Recorded, "closed", [])
    monkeypatch.setattr(trackers, "_Wandb", Recorded)
    return Recorded


def opened(work: Path, key: str = "key", say: Any = print, names: tuple[str, ...] = ("wandb",)) -> Trackers:
    return Trackers(names, work, "runs/toy/mib", key, SETTINGS, say)


def trained(progress: Progress, first: int, last: int) -> None:
    for iteration in range(first, last + 1):
        progress.iteration(iteration, 0.1, {"classification": float(iteration), "total": 2.0 * iteration})


def test_nothing_is_asked_for_by_default():
    assert wanted_trackers({}) == wanted_trackers({TRACKERS: " "}) == ()


def test_an_unknown_or_absent_package_is_one_clear_line_before_anything_is_trained(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(TrackerError, match=r"unknown tracker 'wandbb'; did you mean 'wandb'\?"):
        wanted_trackers({TRACKERS: "wandbb"})
    monkeypatch.setitem(trackers.PACKAGES, "wandb", "a_package_that_nobody_has")
    with pytest.raises(TrackerError, match=r"names 'wandb', which is not installed: .*\[wandb\]"):
        wanted_trackers({TRACKERS: "wandb"})


def test_a_resumed_training_goes_on_in_its_run_and_repeats_nothing(recorded: type[Recorded], tmp_path: Path):
    first = Progress(6, log=io.StringIO(), trackers=opened(tmp_path))
    trained(first, 1, 3)
    state = first.state_dict()
    trained(first, 4, 4)  # after the snapshot, before the machine died
    second = Progress(6, log=io.StringIO(), trackers=opened(tmp_path))
    second.load_state_dict(state)
    trained(second, 4, 6)
    ((_, run),) = recorded.runs.items()
    assert [iteration for iteration, _ in run] == [1, 2, 3, 4, 5, 6]
    assert run[-1][1] == {"learning_rate": 0.1, "loss/classification": 6.0, "loss/total": 12.0}


def test_another_training_in_the_same_folder_is_another_run(recorded: type[Recorded], tmp_path: Path):
    opened(tmp_path).close(completed=False)
    opened(tmp_path).close(completed=True)
    opened(tmp_path).close(completed=False)
    opened(tmp_path, key="another configuration").close(completed=True)
    assert recorded.closed == [("run0", False), ("run0", True), ("run1", False), ("run2", True)]


def test_a_service_that_fails_ends_no_training(
    recorded: type[Recorded], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    said: list[str] = []
    reporting = opened(tmp_path, say=said.append)
    monkeypatch.setattr(recorded, "log", lambda *_: 1 / 0)
    progress = Progress(3, log=io.StringIO(), trackers=reporting)
    trained(progress, 1, 3)
    assert len(progress.curves) == 3
    assert said == ["wandb failed: division by zero; training continues without it"]
    monkeypatch.setattr(recorded, "__init__", lambda *_: [][0])
    opened(tmp_path, say=said.append)
    assert len(said) == 2 and "training continues without it" in said[1]


def test_mlflow_keeps_the_curves_of_an_interrupted_training_in_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("mlflow", reason="mlflow is not installed (pip install '.[mlflow]')")
    pytest.importorskip("sqlalchemy", reason="MLflow's sqlite store needs sqlalchemy")
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    said: list[str] = []
    for first, last in ((1, 3), (1, 5)):
        reporting = opened(tmp_path, say=said.append, names=("mlflow",))
        for iteration in range(first, last + 1):
            reporting.log(iteration, {"loss/total": float(iteration)})
        identity = json.loads((tmp_path / "tracker-mlflow.json").read_text())["identity"]
        reporting.close(completed=last == 5)
    assert not said
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("segue").experiment_id])
    assert run.info.run_id == identity and run.info.status == "FINISHED"
    assert run.data.params["method.hyper_parameters.distillation_weight"] == "10.0"
    assert [(m.step, m.value) for m in client.get_metric_history(identity, "loss/total")] == [
        (i, i) for i in range(1, 6)
    ]


def test_wandb_keeps_curves_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("wandb", reason="wandb is not installed (pip install '.[wandb]')")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.delenv("WANDB_DIR", raising=False)
    said: list[str] = []
    for first, last in ((1, 3), (1, 5)):
        reporting = opened(tmp_path, say=said.append)
        identity = json.loads((tmp_path / "tracker-wandb.json").read_text())["identity"]
        for iteration in range(first, last + 1):
            reporting.log(iteration, {"loss/total": float(iteration)})
        reporting.close(completed=last == 5)
    assert not said
    files = sorted((tmp_path / "wandb").glob(f"offline-run-*-{identity}/run-{identity}.wandb"))
    assert files and all(file.stat().st_size for file in files)
