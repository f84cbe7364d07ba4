"""The same on GPUs: two of them through NCCL, and one with smaller passes. ``make gpu-check`` runs this."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from method_jobs import RUNS, Workshop
from split_jobs import SplitJob, in_processes, train

from model.training.trees import tensors_of

ITERATIONS = 4
METHODS = (("semantic", "mib"), ("semantic", "dkd"), ("panoptic", "balconpas-r"))
"""With batch statistics over both GPUs, with a loss that reads parameters, and with masks and random points."""

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("workshop"))


def job(workshop: Workshop, key: tuple[str, str]) -> SplitJob:
    """The second increment of a method."""
    training = RUNS[key].trainings[2]
    spec = {**training.spec, "recipe": {**training.spec["recipe"], "iterations": ITERATIONS}}
    return SplitJob(json.dumps(spec), workshop.files(training), device="cuda")


def check_equal(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found["totals"] == pytest.approx(expected["totals"], rel=1e-5)
    for ours, theirs in zip(tensors_of(found["network"]), tensors_of(expected["network"]), strict=True):
        torch.testing.assert_close(ours.double(), theirs.double(), rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus_find_what_one_does(workshop: Workshop, tmp_path: Path) -> None:
    jobs = [job(workshop, key) for key in METHODS]
    for one, (first, last) in zip(jobs, in_processes(2, tmp_path / "two", jobs), strict=True):
        check_equal(first, train(one))
        check_equal(last, first)


def test_passes_of_one_image_find_what_one_pass_does(workshop: Workshop) -> None:
    whole = job(workshop, ("semantic", "dkd"))
    check_equal(train(replace(whole, micro_batch=1)), train(whole))
