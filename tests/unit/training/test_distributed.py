"""One training in several processes, and in smaller passes: the result of one process, for methods of every kind.

Everything is in double precision, in which rounding hides no difference: in single precision an optimiser that divides by the
size of gradients makes differences of its own from those that are zero. Mask networks have frozen normalisation, as published.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from method_jobs import RUNS, Workshop
from split_jobs import SplitJob, in_processes, train

from model.training.checkpoint import load_checkpoint, save_checkpoint
from model.training.split_pass import SplitError
from model.training.trees import tensors_of

ITERATIONS = 20
KINDS = {
    "plain": ("semantic", "finetuning"),
    "old model": ("semantic", "mib"),
    "prototypes": ("semantic", "sdr"),
    "importance": ("semantic", "rw"),
    "thresholds": ("semantic", "plop"),
    "memory": ("semantic", "ssul-m"),
    "statistics": ("semantic", "star"),
    "parameters in losses": ("semantic", "dkd"),
    "every hook": ("semantic", "every-hook"),
    "mask": ("panoptic", "balconpas-r"),
    "prompts": ("panoptic", "eclipse"),
    "query bank": ("panoptic", "simcis"),
}
WITHOUT_BATCH_STATISTICS = ("memory", "statistics", "parameters in losses", "mask", "prompts", "query bank")
FROZEN = {"norm": "frozen-bn"}
TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("workshop"))


@pytest.fixture(scope="module")
def jobs(workshop: Workshop) -> dict[str, SplitJob]:
    """The second increment of each method, whose state is the longest."""
    found = {}
    for kind, key in KINDS.items():
        training = RUNS[key].trainings[2]
        recipe, files = {**training.spec["recipe"], "iterations": ITERATIONS}, workshop.files(training)
        if key[0] == "panoptic":
            recipe["network"] = {**recipe["network"], **FROZEN}
            files = replace(files, previous=frozen(files.previous))
        found[kind] = SplitJob(json.dumps({**training.spec, "recipe": recipe}), files)
    return found


def frozen(checkpoint: Path | None) -> Path:
    """The checkpoint of the same network with frozen normalisation."""
    assert checkpoint is not None
    known = load_checkpoint(checkpoint)
    network = {name: value for name, value in known.network.items() if not name.endswith("num_batches_tracked")}
    changed = checkpoint.with_name("frozen.pt")
    save_checkpoint(changed, replace(known, network=network, network_arguments={**known.network_arguments, **FROZEN}))
    return changed


@pytest.fixture(scope="module")
def alone(jobs: dict[str, SplitJob]) -> Callable[[str], dict[str, Any]]:
    """What one process finds, each job once."""
    known: dict[str, dict[str, Any]] = {}

    def found(kind: str) -> dict[str, Any]:
        if kind not in known:
            known[kind] = train(jobs[kind])
        return known[kind]

    return found


@pytest.fixture(scope="module")
def divided(
    jobs: dict[str, SplitJob], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """What two processes find, and two that take one image at a time."""
    asked = dict(jobs) | {f"{kind}, by one": replace(jobs[kind], micro_batch=1) for kind in ("mask", "memory")}
    found = in_processes(2, tmp_path_factory.mktemp("processes") / "two", list(asked.values()))
    return dict(zip(asked, found, strict=True))


def check_equal(found: dict[str, Any], expected: dict[str, Any], tolerance: float = TOLERANCE) -> None:
    assert len(expected["totals"]) == ITERATIONS
    assert found["totals"] == pytest.approx(expected["totals"], rel=1e-5)
    for part in ("network", "state"):
        ours, theirs = tensors_of(found[part]), tensors_of(expected[part])
        assert [tensor.shape for tensor in ours] == [tensor.shape for tensor in theirs]
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one.double(), other.double(), rtol=tolerance, atol=tolerance, equal_nan=True)


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_find_what_one_does(kind: str, alone: Any, divided: Any) -> None:
    first, last = divided[kind]
    check_equal(first, alone(kind))
    check_equal(last, first, tolerance=0.0)


@pytest.mark.parametrize("kind", WITHOUT_BATCH_STATISTICS)
def test_passes_of_one_image_find_what_one_pass_does(kind: str, jobs: dict[str, SplitJob], alone: Any) -> None:
    check_equal(train(replace(jobs[kind], micro_batch=1)), alone(kind))


@pytest.mark.parametrize("kind", ["mask", "memory"])
def test_processes_may_take_smaller_passes_too(kind: str, alone: Any, divided: Any) -> None:
    check_equal(divided[f"{kind}, by one"][0], alone(kind))


def test_smaller_passes_of_a_network_that_normalises_over_the_batch_are_refused(jobs: dict[str, SplitJob]) -> None:
    with pytest.raises(SplitError, match=r"micro_batch 2 would change the result: in training '.+' normalises"):
        train(replace(jobs["old model"], micro_batch=2))
