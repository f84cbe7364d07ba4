"""What finished trainings and evaluations took, and what others like them will take.

The records of the results (``train.json``, ``evaluation.json``) say how long a job took, on what hardware, and its spec. An
estimate is the median over the finished jobs that are most like the one in question:

1. the same job, whatever its seed;
2. trainings of the same recipe and method, per iteration; evaluations of the same networks on the same dataset;
3. trainings of the same recipe and other methods;
4. other steps of the same recipe: a base step from increments, which have an old model, or the other way round.

Nothing is estimated where none of these has run. What has run on other hardware is never mixed in. Snakemake's own benchmark
files are not used: they say neither where a job ran nor how many iterations it did.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from model.common.files import FileError, read_json
from model.common.fingerprints import canonical_json
from model.common.hardware import cpu_model, gpu_models
from model.common.json_files import without_checksum
from model.workflow.gpu_assignment import gpu_pool, may_be_there

LIKENESS = (
    "the same training, whatever its seed",
    "their recipe and method",
    "their recipe with other methods",
    "other steps of their recipe",
)
"""What an estimate is taken from, the surest first."""
_WITHOUT_COST = ("iterations", "epochs", "schedule", "optimiser", "clip_norm", "void_in_training", "leak_next_class")
"""Keys of a recipe that do not decide how long an iteration takes."""
_TRAININGS, _EVALUATIONS = ("base/*/*/seed*", "runs/*/*/*/*/seed*/step*"), "evaluation/*/evaluation.json"


@dataclass(frozen=True)
class Finished:
    """A finished training or evaluation.

    Attributes:
        kind: ``training`` or ``evaluation``.
        spec: of the job.
        hardware: that it ran on, see :func:`hardware`.
        seconds: of each GPU that it had, or of the CPU.
        iterations: optimiser steps; 1 for an evaluation.
    """

    kind: str
    spec: Mapping[str, Any]
    hardware: str
    seconds: float
    iterations: int = 1


@dataclass(frozen=True)
class Estimate:
    """What a job will take, in seconds of one GPU or of the CPU.

    Attributes:
        seconds: the median.
        lowest: the quickest of the jobs that it is taken from.
        highest: the slowest.
        likeness: position in :data:`LIKENESS`.
    """

    seconds: float
    lowest: float
    highest: float
    likeness: int


class History:
    """Finished jobs, by what they have in common.

    Args:
        finished: in any order.
    """

    def __init__(self, finished: Iterable[Finished]) -> None:
        self.finished = tuple(finished)
        self._rates: dict[tuple[str, int, str], list[float]] = defaultdict(list)
        self._iterations: dict[str, list[int]] = defaultdict(list)
        for job in self.finished:
            keys = _keys(job.kind, job.spec)
            self._iterations[keys[0]].append(job.iterations)
            for likeness, key in enumerate(keys):
                self._rates[job.hardware, likeness, key].append(job.seconds / job.iterations)

    @property
    def hardware(self) -> Counter[str]:
        """Number of trainings that have finished on each hardware."""
        return Counter(job.hardware for job in self.finished if job.kind == "training")

    def iterations(self, spec: Mapping[str, Any]) -> int | None:
        """Iterations that the same training took with other seeds, on whatever hardware; None if there is none."""
        found = self._iterations.get(_keys("training", spec)[0])
        return None if found is None else round(median(found))

    def estimate(self, kind: str, spec: Mapping[str, Any], hardware: str, iterations: int = 1) -> Estimate | None:
        """What a job will take; None where nothing like it has run on this hardware.

        Args:
            kind: ``training`` or ``evaluation``.
            spec: of the job.
            hardware: that it would run on.
            iterations: of a training.
        """
        for likeness, key in enumerate(_keys(kind, spec)):
            if rates := self._rates.get((hardware, likeness, key)):
                low, high = min(rates) * iterations, max(rates) * iterations
                return Estimate(median(rates) * iterations, low, high, likeness)
        return None


def read_history(folders: Iterable[Path]) -> History:
    """The finished jobs of some results folders; records that are damaged or say no time are left out."""
    return History(job for folder in folders for job in _of_folder(folder))


def hardware(machine: Mapping[str, Any]) -> str:
    """What decides how long something takes, from the entry ``machine`` of a record: ``CPU AMD EPYC 7763``, ``NVIDIA A100``."""
    device = str(machine["device"])
    return f"CPU {machine['cpu']}" if device == "cpu" else device


def present_hardware() -> tuple[str, ...]:
    """What trainings would run on here: the kinds of GPUs that they may have, else the CPU."""
    gpus = gpu_models() if may_be_there() and gpu_pool(os.environ) else ()
    return gpus or (f"CPU {cpu_model()}",)


def _of_folder(folder: Path) -> Iterator[Finished]:
    for pattern in _TRAININGS:
        for record in sorted(folder.glob(f"{pattern}/train.json")):
            yield from _read(record, "training")
        for record in sorted(folder.glob(f"{pattern}/{_EVALUATIONS}")):
            yield from _read(record, "evaluation")


def _read(record: Path, kind: str) -> Iterator[Finished]:
    try:
        document = without_checksum(read_json(record), record)
        section = document.get("made_by", document)
        machine = section["machine"]
        on = hardware(machine)
        gpus = 1 if on.startswith("CPU ") else int(machine.get("processes") or 1)
        iterations = int(document["iterations"]) if kind == "training" else 1
        if iterations > 0:
            yield Finished(kind, section["spec"], on, float(section["seconds"]) * gpus, iterations)
    except (FileError, KeyError, TypeError, ValueError, AttributeError):
        return


def _keys(kind: str, spec: Mapping[str, Any]) -> tuple[str, ...]:
    """What a job has in common with others of its kind, the most telling first; as many as :data:`LIKENESS` at most."""
    same = {key: value for key, value in spec.items() if key != "seed"}
    if kind == "evaluation":
        decisive = ("dataset", "task", "family", "network", "timm", "size", "longest", "threads", "protocol")
        return canonical_json(same), canonical_json({key: spec.get(key) for key in decisive})
    recipe = {key: value for key, value in spec["recipe"].items() if key not in _WITHOUT_COST}
    recipe["network"] = {key: value for key, value in recipe["network"].items() if key != "weights"}
    base = spec["step"]["index"] == 0
    keys = same, [recipe, base, spec["method"]["name"]], [recipe, base], [recipe]
    return tuple(canonical_json(key) for key in keys)
