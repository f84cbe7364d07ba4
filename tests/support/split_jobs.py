"""Trainings in one or several processes; a module of its own, because processes that are started import it by name.

It imports no more than they need: eight of them start on two processors.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import multiprocessing

from model.common.devices import choose_device
from model.common.process_numbers import MEETING, ProcessNumbers
from model.data.loading.mask_batch import MaskBatch
from model.data.loading.pixel_batch import PixelBatch
from model.methods.registry import METHODS
from model.networks.layers import normalisations
from model.training import job as job_module
from model.training.checkpoint import to_cpu
from model.training.job import JobFiles, run_job
from model.training.processes import Processes, joined
from model.training.spec import parse_spec
from model.training.trees import replaced

METHODS["per-pixel"]["every-hook"] = "every_hook:EveryHook"  # as in method_jobs
PRELOADED = ("model.training.job", "model.training.loaders", "model.networks.registry")
"""Imported once for all processes that are started; the first one brings torch."""


@dataclass(frozen=True)
class SplitJob:
    """A training that is to be repeated in another number of processes.

    Attributes:
        spec: its description.
        files: what it reads.
        micro_batch: images of one forward pass at most.
        device: where it runs.
        frozen: whether normalisation stays in evaluation mode, so that no image has an effect on another one's outputs.
    """

    spec: str
    files: JobFiles
    micro_batch: int | None = None
    device: str = "cpu"
    frozen: bool = False


class Rows:
    """A reporter that keeps the total of every iteration."""

    def __init__(self) -> None:
        self.totals: list[float] = []

    def iteration(self, iteration: int, learning_rate: float, terms: dict[str, float]) -> None:
        self.totals.append(terms["total"])

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


def train(job: SplitJob, processes: Processes | None = None) -> dict[str, Any]:
    """Network, state of the method, and losses of a training in double precision, in which rounding hides no difference."""
    rows = Rows()
    with double_precision(), frozen_normalisation() if job.frozen else nullcontext():
        outcome = run_job(
            parse_spec(job.spec),
            job.files,
            device=choose_device(job.device, 0 if processes is None else processes.rank),
            make_reporter=lambda _: rows,
            processes=processes,
            micro_batch=job.micro_batch,
        )
    found = {"network": outcome.checkpoint.network, "state": outcome.checkpoint.method_state, "totals": rows.totals}
    return to_cpu(found)  # type: ignore[no-any-return]


@contextmanager
def double_precision() -> Iterator[None]:
    """Networks and images in double precision."""
    build = job_module.build_networks

    def built(*arguments: Any) -> Any:
        network, old_model, state = build(*arguments)
        state = replaced(state, lambda value: value.double() if value.dtype == torch.float32 else value)
        return network.double(), None if old_model is None else old_model.double(), state

    def doubled(send: Any) -> Any:
        return lambda batch, *arguments, **options: send(
            replace(batch, images=batch.images.double()), *arguments, **options
        )

    with (
        patch.object(job_module, "build_networks", built),
        patch.object(PixelBatch, "to", doubled(PixelBatch.to)),
        patch.object(MaskBatch, "to", doubled(MaskBatch.to)),
    ):
        yield


@contextmanager
def frozen_normalisation() -> Iterator[None]:
    """Methods that keep normalisation in evaluation mode, besides what they keep so themselves."""
    build = job_module.build_method

    def built(spec: Any) -> Any:
        method = build(spec)
        trainable = method.trainable

        def kept(network: Any, step: Any) -> Any:
            found = trainable(network, step)
            return replace(found, evaluation_modules=(*found.evaluation_modules, *normalisations(network)))

        object.__setattr__(method, "trainable", kept)
        return method

    with patch.object(job_module, "build_method", built):
        yield


def work(rank: int, count: int, folder: str, jobs: list[SplitJob]) -> None:
    """One of several processes that train the same jobs; the first and the last one's results are saved."""
    torch.set_num_threads(1)
    os.environ[MEETING] = f"{folder}/meeting"
    with joined(ProcessNumbers(rank, count, rank, count), choose_device(jobs[0].device, rank)) as processes:
        assert processes is not None
        for number, job in enumerate(jobs):
            found = train(job, processes)
            if rank in (0, count - 1):
                torch.save(found, f"{folder}/{number}-{'first' if rank == 0 else 'last'}")


def in_processes(count: int, folder: Path, jobs: list[SplitJob]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """What the first and the last of some processes found, for each job."""
    folder.mkdir()
    multiprocessing.get_context("forkserver").set_forkserver_preload(list(PRELOADED))
    multiprocessing.start_processes(work, (count, str(folder), jobs), nprocs=count, start_method="forkserver")
    return [
        tuple(torch.load(folder / f"{number}-{which}", weights_only=True) for which in ("first", "last"))  # type: ignore[misc]
        for number in range(len(jobs))
    ]
