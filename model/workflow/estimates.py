"""How long the jobs of a plan will take on some hardware, how sure that is, and what shared base steps save."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from model.common.files import FileError
from model.splits.split_file import read_split
from model.workflow.changes import duration
from model.workflow.history import LIKENESS, Estimate, History
from model.workflow.jobs import Training
from model.workflow.plan import Plan

NOT_KNOWN = "?"
"""Stands for a time that nothing tells."""


@dataclass(frozen=True)
class Times:
    """What the trainings and evaluations of a plan will take on one kind of hardware.

    Attributes:
        hardware: as :func:`model.workflow.history.hardware` calls it.
        trainings: folder → estimate, None where nothing tells. Imports are no trainings.
        evaluations: likewise.
        records: trainings that have finished on this hardware.
    """

    hardware: str
    trainings: Mapping[str, Estimate | None]
    evaluations: Mapping[str, Estimate | None]
    records: int

    def of(self, training: str) -> str:
        """Estimate of one training for a table: ``12 min``, or ``~ 12 min`` if it is not from the same training."""
        if training not in self.trainings:
            return ""
        found = self.trainings[training]
        if found is None:
            return NOT_KNOWN
        return f"{'~ ' if found.likeness else ''}{duration(found.seconds)}"


def planned_times(plan: Plan, results: Path, history: History, hardware: str) -> Times:
    """Estimates of every training and evaluation of a plan.

    Args:
        plan: of a configuration.
        results: folder with the splits, which tell how long an epoch is.
        history: finished jobs.
        hardware: that everything would run on.
    """
    images: dict[str, int | None] = {}
    trainings: dict[str, Estimate | None] = {}
    for name, training in plan.trainings.items():
        if training.imported is None:
            count = _iterations(training, results, history, images)
            trainings[name] = (
                None if count is None else history.estimate("training", training.spec, hardware, max(1, count))
            )
    evaluations = {name: history.estimate("evaluation", job.spec, hardware) for name, job in plan.evaluations.items()}
    return Times(hardware, trainings, evaluations, history.hardware[hardware])


def time_lines(plan: Plan, times: Times, to_do: Collection[str]) -> list[str]:
    """What a plan takes in all and what is still to be done, with how sure that is.

    Args:
        plan: that the times are of.
        times: on one kind of hardware.
        to_do: names of the trainings and evaluations that would run now.
    """
    what = "if one job runs at a time" if times.hardware.startswith("CPU ") else "in GPU time"
    if not any((*times.trainings.values(), *times.evaluations.values())):
        return [f"Time on {times.hardware}: not estimated, since nothing like this has finished on it."]
    lines = [f"Time on {times.hardware}, {what}:"]
    for title, wanted in (("in all", None), ("to be done", to_do)):
        parts = []
        for kind, found in (("trainings", times.trainings), ("evaluations", times.evaluations)):
            chosen = [estimate for name, estimate in found.items() if wanted is None or name in wanted]
            if chosen:
                parts.append(f"{kind} {total_text(chosen)}")
        lines.append(f"  {title}: {', '.join(parts) or 'nothing'}")
    return [*lines, *(f"  {line}" for line in (*_sureness(times), *_sharing(plan, times)))]


def _iterations(training: Training, results: Path, history: History, images: dict[str, int | None]) -> int | None:
    """Optimiser steps of a training; None where an epoch's length is not known before the data are split."""
    recipe = training.spec["recipe"]
    if recipe["iterations"]:
        return int(recipe["iterations"])
    if (found := history.iterations(training.spec)) is not None:
        return found
    if training.split.file not in images:
        try:
            images[training.split.file] = len(read_split(results / training.split.file)["images"])
        except FileError:
            images[training.split.file] = None
    count = images[training.split.file]
    if count is None:
        return None
    replayed = 0 if training.memory is None else training.memory.size
    return int(recipe["epochs"]) * max(1, (count + replayed) // int(recipe["batch_size"]))


def total_text(estimates: Iterable[Estimate | None]) -> str:
    """``about 12 min (11 min to 14 min), without 3 that nothing tells of``."""
    estimates = list(estimates)
    known = [found for found in estimates if found is not None]
    if not known:
        return "not known"
    low, high = sum(e.lowest for e in known), sum(e.highest for e in known)
    text = f"about {duration(sum(e.seconds for e in known))}"
    if duration(low) != duration(high):
        text += f" ({duration(low)} to {duration(high)})"
    missing = len(estimates) - len(known)
    return f"{text}, without {missing} of which nothing is known" if missing else text


def _sureness(times: Times) -> Iterator[str]:
    counts = Counter(found.likeness for found in times.trainings.values() if found is not None)
    many = "training has" if times.records == 1 else "trainings have"
    sources = [
        f"{counts[likeness]} estimated from {text}" for likeness, text in enumerate(LIKENESS) if counts[likeness]
    ]
    yield f"how sure: {times.records} {many} finished on it; {'; '.join(sources) or 'none like those of the plan'}"


def _sharing(plan: Plan, times: Times) -> Iterator[str]:
    used = Counter(training.directory for run in plan.runs for training in run.trainings)
    again = {name: count - 1 for name, count in used.items() if count > 1 and name in times.trainings}
    saved = sum(again.values())
    if not saved:
        return
    found = [times.trainings[name] for name, count in again.items() for _ in range(count)]
    yield f"sharing saves {saved} training{'s' * (saved > 1)}, {total_text(found)}"
