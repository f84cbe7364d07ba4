"""Estimates come from finished jobs of the same hardware, the most similar first, and from nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from model.common.hardware import gpu_models
from model.common.json_files import write_checked
from model.workflow.history import Finished, History, hardware, read_history

CPU = "CPU Z80"


def spec(method: str = "mib", *, seed: int = 0, step: int = 1, iterations: int = 100, **recipe: Any) -> dict[str, Any]:
    whole = {
        "family": "per-pixel",
        "network": {"name": "deeplabv3"},
        "batch_size": 4,
        "iterations": iterations,
        **recipe,
    }
    return {
        "dataset": "toy",
        "seed": seed,
        "step": {"index": step, "past": [0], "current": [1]},
        "method": {"name": method, "hyper_parameters": {}},
        "recipe": {"epochs": None, **whole},
    }


def ran(made: dict[str, Any], seconds: float, on: str = CPU) -> Finished:
    return Finished("training", made, on, seconds, made["recipe"]["iterations"])


def test_the_same_training_counts_more_than_others_of_its_method():
    history = History([ran(spec(seed=1), 50), ran(spec(seed=2), 70), ran(spec(seed=3), 60), ran(spec(step=2), 1000)])
    found = history.estimate("training", spec(seed=9), CPU, 100)
    assert (found.seconds, found.lowest, found.highest, found.likeness) == (60, 50, 70, 0)


def test_another_length_of_the_same_recipe_and_method_is_estimated_from_its_iterations():
    longer = spec(iterations=1000, schedule={"name": "poly"}, optimiser={"learning_rate": 0.1})
    found = History([ran(spec(), 50)]).estimate("training", longer, CPU, 1000)
    assert (found.seconds, found.likeness) == (500, 1)


@pytest.mark.parametrize(
    ("other", "likeness"), [(spec("plop"), 2), (spec("finetuning", step=0), 3)], ids=["method", "step"]
)
def test_a_method_that_never_ran_is_estimated_from_its_recipe(other: dict[str, Any], likeness: int):
    found = History([ran(spec(), 50)]).estimate("training", other, CPU, 100)
    assert (found.seconds, found.likeness) == (50, likeness)


def test_increments_count_more_than_base_steps_for_an_increment():
    history = History([ran(spec("finetuning", step=0), 10), ran(spec("mib"), 50)])
    assert history.estimate("training", spec("plop"), CPU, 100).seconds == 50


@pytest.mark.parametrize(
    "change",
    [{"batch_size": 8}, {"network": {"name": "mask2former"}}, {"precision": "bf16"}, {"transform": {"size": 9}}],
    ids=str,
)
def test_nothing_is_estimated_from_a_recipe_that_costs_something_else(change: dict[str, Any]):
    assert History([ran(spec(), 50)]).estimate("training", spec(**change), CPU, 100) is None


def test_nothing_is_estimated_from_other_hardware():
    history = History([ran(spec(), 50, "NVIDIA A100")])
    assert history.estimate("training", spec(), CPU, 100) is None
    assert history.hardware == {"NVIDIA A100": 1}


def test_an_evaluation_is_estimated_from_those_of_the_same_network_on_the_same_data():
    def evaluation(**changes: Any) -> dict[str, Any]:
        whole = {"dataset": "toy", "family": "mask", "network": "n", "protocol": {"name": "segue"}, "method": "a"}
        return {**whole, **changes}

    history = History([Finished("evaluation", evaluation(), CPU, 8)])
    assert history.estimate("evaluation", evaluation(method="b"), CPU).seconds == 8
    assert history.estimate("evaluation", evaluation(dataset="other"), CPU) is None


def record(folder: Path, made: dict[str, Any], machine: dict[str, Any], seconds: float = 30.0) -> Path:
    file = folder / "runs/toy/c/r/mib/seed0/step1/train.json"
    file.parent.mkdir(parents=True)
    write_checked(file, {"spec": made, "machine": machine, "seconds": seconds, "iterations": 100})
    return file


def test_records_tell_what_trainings_took(tmp_path: Path):
    record(tmp_path, spec(), {"device": "cpu", "cpu": "Z80"})
    assert read_history([tmp_path]).finished == (Finished("training", spec(), CPU, 30.0, 100),)


def test_the_time_of_every_gpu_of_a_training_counts(tmp_path: Path):
    record(tmp_path, spec(), {"device": "NVIDIA A100", "cpu": "Z80", "processes": 4})
    (found,) = read_history([tmp_path]).finished
    assert (found.hardware, found.seconds) == ("NVIDIA A100", 120.0)


def test_a_damaged_record_tells_nothing(tmp_path: Path):
    file = record(tmp_path, spec(), {"device": "cpu", "cpu": "Z80"})
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "seconds": 1.0}))
    assert read_history([tmp_path]).finished == ()


def test_hardware_is_the_gpu_or_else_the_processor():
    assert hardware({"device": "cpu", "cpu": "Z80"}) == CPU
    assert hardware({"device": "NVIDIA A100", "cpu": "Z80"}) == "NVIDIA A100"


def test_gpus_are_named_as_their_driver_names_them(tmp_path: Path):
    for bus in ("0000:01", "0000:02"):
        (tmp_path / bus).mkdir()
        (tmp_path / bus / "information").write_text("Model: \t\t NVIDIA A100-SXM4-40GB\nIRQ:   12\n")
    assert gpu_models(tmp_path) == ("NVIDIA A100-SXM4-40GB",)
