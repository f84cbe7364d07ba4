"""What `make plan` says about time: sums over jobs, how sure they are, and what sharing saves."""

from __future__ import annotations

from pathlib import Path

from model.common.json_files import write_checked
from model.config.reading import parse_config
from model.workflow.estimates import planned_times, time_lines
from model.workflow.history import Finished, History
from model.workflow.plan import Plan

CPU = "CPU Z80"
RECIPE = {
    "family": "per-pixel",
    "network": {"name": "deeplabv3", "backbone": "tiny"},
    "optimiser": {"name": "sgd", "learning_rate": 0.1},
    "base": {"iterations": 100},
    "increment": {"iterations": 50},
    "batch_size": 2,
    "transform": {"name": "full-image"},
}


def plan(methods: list[str], recipe: dict = RECIPE) -> Plan:
    experiment = {"dataset": "toy", "scenarios": ["6-3"], "recipe": "small", "methods": methods}
    datasets = {"toy": {"kind": "shapes", "stuff": 6, "things": 6}}
    return Plan(
        parse_config(
            {"schema_version": 1, "datasets": datasets, "recipes": {"small": recipe}, "experiments": [experiment]}
        )
    )


def finished(found: Plan, *, per_iteration: float = 3.6, evaluation: float = 60.0) -> list[Finished]:
    """Every training and evaluation of a plan has run once."""
    trained = [
        Finished(
            "training", t.spec, CPU, per_iteration * t.spec["recipe"]["iterations"], t.spec["recipe"]["iterations"]
        )
        for t in found.trainings.values()
    ]
    return [*trained, *(Finished("evaluation", e.spec, CPU, evaluation) for e in found.evaluations.values())]


def test_times_are_summed_over_the_jobs_and_over_what_is_left(tmp_path: Path):
    found = plan(["finetuning", "mib"])
    times = planned_times(found, tmp_path, History(finished(found)), CPU)
    left = next(name for name in found.trainings if name.startswith("runs/"))
    lines = time_lines(found, times, {left})
    assert lines[1] == "  in all: trainings about 18 min, evaluations about 5 min"  # (100 + 4 × 50) × 3.6 s, 5 × 60 s
    assert lines[2] == "  to be done: trainings about 3 min"
    assert (
        lines[3] == "  how sure: 5 trainings have finished on it; 5 estimated from the same training, whatever its seed"
    )
    assert lines[4] == "  sharing saves 1 training, about 6 min"  # the base step of the second method


def test_what_nothing_is_known_of_is_counted_and_not_invented(tmp_path: Path):
    history = History(finished(plan(["finetuning"])))
    found = plan(["finetuning", "lwf-mc"])
    times = planned_times(found, tmp_path, history, CPU)
    assert {estimate.likeness for name, estimate in times.trainings.items() if "lwf-mc" in name} == {2}
    other = plan(["finetuning"], {**RECIPE, "batch_size": 4})
    nothing = planned_times(other, tmp_path, history, CPU)
    assert set(nothing.trainings.values()) == {None} and {nothing.of(name) for name in nothing.trainings} == {"?"}
    assert time_lines(plan(["mib"], {**RECIPE, "batch_size": 4}), nothing, set())[0].startswith("Time on CPU Z80")


def test_a_range_is_given_where_seeds_took_different_times(tmp_path: Path):
    found = plan(["finetuning"])
    runs = [*finished(found), *finished(found, per_iteration=7.2), *finished(found, per_iteration=3.6)]
    lines = time_lines(found, planned_times(found, tmp_path, History(runs), CPU), set())
    assert lines[1] == "  in all: trainings about 12 min (12 min to 24 min), evaluations about 3 min"


def test_epochs_have_a_length_once_the_images_are_known(tmp_path: Path):
    epochs = {**RECIPE, "base": {"epochs": 3}, "increment": {"epochs": 1}}
    found = plan(["finetuning"], epochs)
    base = next(t for t in found.trainings.values() if t.previous is None)
    history = History([Finished("training", {**base.spec, "dataset": "other"}, CPU, 100.0, 10)])
    assert planned_times(found, tmp_path, history, CPU).trainings[base.directory] is None
    write_split(tmp_path / base.split.file, images=20)
    estimate = planned_times(found, tmp_path, history, CPU).trainings[base.directory]
    assert estimate.seconds == 3 * (20 // 2) * 10.0


def write_split(file: Path, images: int) -> None:
    file.parent.mkdir(parents=True)
    content = {"dataset": "toy", "task": "panoptic", "setting": "overlapped", "split": "train", "step": 0, "past": []}
    names = [f"image {k}" for k in range(images)]
    write_checked(file, {**content, "current": [1], "visible": [1], "images": names})
