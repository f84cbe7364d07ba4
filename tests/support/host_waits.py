"""Where the host would wait for a device in an iteration of every method.

    python tests/support/host_waits.py [METHOD ...]

prints them by source line.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from method_jobs import PLAN, Notes, Workshop
from waiting_device import DEVICE, Counting, counted

from model.data.loading.numbered import NumberedLoader
from model.training.job import run_job
from model.training.loop import train
from model.training.spec import parse_spec
from model.workflow.jobs import Training

FIRST_INCREMENTS = {(run.task, run.method): run.trainings[min(1, len(run.trainings) - 1)] for run in PLAN.runs}
"""The step of every method that is looked at: the first increment, or the only step."""


def iteration_waits(workshop: Workshop, training: Training) -> Counter[str]:
    """Waits by source line in the last iteration but one: what is made once is there, and no epoch of several batches ends."""
    spec, files = parse_spec(json.dumps(training.spec)), workshop.files(training)
    after: list[Counter[str]] = []
    deterministic = torch.are_deterministic_algorithms_enabled()
    try:
        with counted() as counting, patch("model.training.step.train", noting(counting, after)), locked_batches():
            run_job(spec, files, device=DEVICE, make_reporter=lambda _: Notes())
    finally:
        torch.use_deterministic_algorithms(deterministic)
    before, last_but_one = after[-3:-1]
    return last_but_one - before


def noting(counting: Counting, after: list[Counter[str]]) -> Callable[..., None]:
    """The training loop, which notes all waits so far, before the first and after each iteration."""

    def noted(context: Any, after_iteration: Callable[..., None], **options: Any) -> None:
        def note(done: int, settle: Callable[[], object]) -> None:
            after_iteration(done, settle)
            after.append(Counter(counting.waits))

        after.append(Counter(counting.waits))
        train(context, after_iteration=note, **options)

    return noted


def locked_batches() -> Any:
    """Batches in page-locked memory, as the loader returns them where there is a CUDA device."""
    plain = NumberedLoader.batches

    def batches(self: NumberedLoader[Any], start: int, stop: int) -> Iterator[Any]:
        return (batch.pin_memory() for batch in plain(self, start, stop))

    return patch.object(NumberedLoader, "batches", batches)


def main() -> None:
    asked = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        workshop = Workshop(Path(folder))
        for (task, method), training in FIRST_INCREMENTS.items():
            if not asked or method in asked:
                waits = iteration_waits(workshop, training)
                print(f"{waits.total():5d}  {task} {method}", flush=True)
                for line, count in waits.most_common():
                    print(f"          {count:4d}  {line}")


if __name__ == "__main__":
    main()
