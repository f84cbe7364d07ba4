"""One training in several processes, and in smaller passes: the result of one process, for methods of every kind.

Everything is in double precision, in which rounding hides no difference: in single precision an optimiser that divides by the
size of gradients makes differences of its own from those that are zero. Normalisation is frozen, in mask networks as published,
but for methods named "over the batch": there it takes its statistics over all processes.
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
IMAGES = 8
KINDS = {
    "plain": ("semantic", "finetuning"),
    "old model": ("semantic", "mib"),
    "prototypes": ("semantic", "sdr"),
    "importance": ("semantic", "rw"),
    "thresholds": ("semantic", "plop"),
    "memory": ("semantic", "ssul-m"),
    "statistics": ("semantic", "star"),
    "parameters in losses": ("semantic", "dkd"),
    "mask": ("panoptic", "balconpas-r"),
    "prompts": ("panoptic", "eclipse"),
    "query bank": ("panoptic", "simcis"),
}
OVER_THE_BATCH = {
    "old model over the batch": ("semantic", "mib"),
    "every hook over the batch": ("semantic", "every-hook"),
}
IN_EIGHT = [*(kind for kind in KINDS if kind not in ("parameters in losses", "query bank")), "old model over the batch"]
BY_ONE = ("mask", "memory")
PASSES = {"prompts": 1}
"""Images of a pass where they are not two. Passes of two round the first update of the prompts 3e-9 away, for a gradient is near
the eps of AdamW; this changes what is selected from then on, as it may on another GPU."""
FROZEN = {"norm": "frozen-bn"}
SMALL = {"semantic": {"size": 32}, "panoptic": {}}
"""Of the transforms. The coarsest features of a mask network need more than one place, and sizes are multiples of 32."""
TOLERANCE = 1e-6


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("workshop"))


@pytest.fixture(scope="module")
def jobs(workshop: Workshop) -> dict[str, SplitJob]:
    """The second increment of each method, whose state is the longest."""
    found = {}
    for kind, key in (KINDS | OVER_THE_BATCH).items():
        training = RUNS[key].trainings[2]
        recipe, files = training.spec["recipe"], workshop.files(training)
        transform = {**recipe["transform"], **SMALL[key[0]]}
        recipe = {**recipe, "iterations": ITERATIONS, "batch_size": IMAGES, "transform": transform}
        if key[0] == "panoptic":
            recipe["network"] = {**recipe["network"], **FROZEN}
            files = replace(files, previous=frozen(files.previous))
        spec = json.dumps({**training.spec, "recipe": recipe})
        found[kind] = SplitJob(spec, files, frozen=key[0] == "semantic" and kind in KINDS)
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


Found = dict[str, tuple[dict[str, Any], dict[str, Any]]]


@pytest.fixture(scope="module")
def divided(jobs: dict[str, SplitJob], tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Found]:
    """What the first and the last of some processes find, all jobs one after another."""
    by_one = {f"{kind}, by one": replace(jobs[kind], micro_batch=1) for kind in BY_ONE}
    asked = {2: dict(jobs) | by_one, 8: {kind: jobs[kind] for kind in IN_EIGHT}}
    known: dict[int, Found] = {}

    def found(count: int) -> Found:
        if count not in known:
            folder = tmp_path_factory.mktemp("processes") / str(count)
            known[count] = dict(
                zip(asked[count], in_processes(count, folder, list(asked[count].values())), strict=True)
            )
        return known[count]

    return found


def check_equal(found: dict[str, Any], expected: dict[str, Any], tolerance: float = TOLERANCE) -> None:
    assert len(expected["totals"]) == ITERATIONS
    assert found["totals"] == pytest.approx(expected["totals"], rel=1e-5)
    for part in ("network", "state"):
        ours, theirs = tensors_of(found[part]), tensors_of(expected[part])
        assert [tensor.shape for tensor in ours] == [tensor.shape for tensor in theirs]
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one.double(), other.double(), rtol=tolerance, atol=tolerance, equal_nan=True)


@pytest.mark.parametrize(
    ("count", "kind"), [(2, kind) for kind in KINDS | OVER_THE_BATCH] + [(8, kind) for kind in IN_EIGHT]
)
def test_several_processes_find_what_one_does(count: int, kind: str, alone: Any, divided: Any) -> None:
    first, last = divided(count)[kind]
    check_equal(first, alone(kind))
    check_equal(last, first, tolerance=0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_smaller_passes_find_what_one_pass_does(kind: str, jobs: dict[str, SplitJob], alone: Any) -> None:
    check_equal(train(replace(jobs[kind], micro_batch=PASSES.get(kind, 2))), alone(kind))


@pytest.mark.parametrize("kind", BY_ONE)
def test_processes_may_take_smaller_passes_too(kind: str, alone: Any, divided: Any) -> None:
    check_equal(divided(2)[f"{kind}, by one"][0], alone(kind))


def test_smaller_passes_of_a_network_that_normalises_over_the_batch_are_refused(jobs: dict[str, SplitJob]) -> None:
    with pytest.raises(SplitError, match=r"micro_batch 4 would change the result: in training '.+' normalises"):
        train(replace(jobs["old model over the batch"], micro_batch=4))
