"""Which checkpoints nothing needs any more, and removing them without losing what can be said about the results.

A checkpoint may go if an increment has continued from it, and everything in the plan that reads it, trainings and evaluations,
is present. Its training stays present: ``train.json`` holds the SHA-256 of the checkpoint, and what was made from it is compared
with that (:func:`model.workflow.state.input_content`). Base steps stay, because other methods share them; so do last steps,
imports, and everything that is not exactly as its record says.

A removed checkpoint that is needed again, by a later step with other hyper-parameters or by another evaluation, is trained again,
with all before it that were removed as well. On a CPU it comes out the same, and what was made from it stays valid; on a GPU it
differs by rounding, and what was made from it is made again.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from model.common.files import not_written
from model.common.locks import NamedLock, NoLocksError
from model.common.own_folders import remove_listed
from model.common.provenance import checksum
from model.training.work_folder import forget_finished
from model.workflow.changes import Cost, cost
from model.workflow.plan import Plan
from model.workflow.state import Job, State

KEEP = "SEGUE_KEEP"
"""Environment variable: ``last`` has a workflow that has succeeded remove what is not needed; ``all`` keeps every checkpoint."""
REMOVED = "removed_checkpoints.csv"
"""List in a results folder of what was removed."""
_COLUMNS = ("removed", "training", "file", "bytes", "sha256", "seconds")


class RetentionError(ValueError):
    """A setting that does not exist; the message names it."""


@dataclass(frozen=True)
class Removable:
    """A checkpoint that nothing in the plan needs any more.

    Attributes:
        training: folder below the results.
        file: the checkpoint.
        size: in bytes.
        sha256: of its content, as recorded.
        again: trainings that have to run to get it back.
        cost: of these, when they ran.
        seconds: of the training alone.
    """

    training: str
    file: Path
    size: int
    sha256: str
    again: tuple[str, ...]
    cost: Cost
    seconds: float | None


@dataclass(frozen=True)
class Retention:
    """What may be removed and what stays.

    Attributes:
        removable: in the order of the plan.
        kept: reason → number of checkpoints on disk that stay for it.
    """

    removable: tuple[Removable, ...]
    kept: Mapping[str, int]


def keep_setting(environment: Mapping[str, str]) -> Literal["all", "last"]:
    """Which checkpoints a finished workflow keeps.

    Raises:
        RetentionError: for anything but ``all`` and ``last``.
    """
    text = environment.get(KEEP) or "all"
    if text == "all" or text == "last":
        return text  # type: ignore[return-value]
    raise RetentionError(
        f"{KEEP} is '{text}': expected 'all', or 'last' to remove checkpoints that nothing needs any more"
    )


def retention(plan: Plan, jobs: Iterable[Job], states: Mapping[str, State]) -> Retention:
    """What may be removed now.

    Args:
        plan: of the configuration. What other configurations may still need is not known.
        jobs: of the plan.
        states: of the jobs, just determined.
    """
    listed = {job.name: job for job in jobs}
    readers: dict[Path, list[str]] = {}
    for job in listed.values():
        for read in job.inputs.values():
            readers.setdefault(read.file, []).append(job.name)
    continued = {t.previous.directory for t in plan.trainings.values() if t.previous is not None}
    kept: dict[str, int] = {}
    going: dict[str, tuple[Path, str]] = {}
    for name, training in plan.trainings.items():
        file = next(file for file in listed[name].outputs if file.name == "checkpoint.pt")
        if not os.path.lexists(file):
            continue
        state, waiting = states[name], [user for user in readers.get(file, ()) if states[user].name != "present"]
        recorded = None if state.provenance is None else state.provenance.outputs.get(file.name)
        if training.imported is not None:
            why = "stand for a training"
        elif training.previous is None:
            why = "of base steps, which others may share"
        elif name not in continued:
            why = "of last steps"
        elif state.name != "present" or not state.complete or recorded is None:
            why = "whose training is not present (make why)"
        elif waiting:
            why = "that unfinished trainings or evaluations need"
        elif file.is_symlink() or not file.is_file():
            why = "that are links to other places"
        else:
            going[name] = file, recorded
            continue
        kept[why] = kept.get(why, 0) + 1
    return Retention(tuple(_removable(name, plan, going, listed, states) for name in going), kept)


def _removable(
    name: str,
    plan: Plan,
    going: Mapping[str, tuple[Path, str]],
    jobs: Mapping[str, Job],
    states: Mapping[str, State],
) -> Removable:
    file, recorded = going[name]
    again = [name]
    before = plan.trainings[name].previous
    while before is not None and (before.directory in going or not _there(jobs[before.directory])):
        again.insert(0, before.directory)
        before = before.previous
    costs = sum((cost(states[training]) for training in again), Cost())
    record = states[name].provenance
    seconds = None if record is None else record.seconds
    return Removable(name, file, file.stat().st_size, recorded, tuple(again), costs, seconds)


def _there(job: Job) -> bool:
    """Whether the checkpoint of a training is there."""
    return all(file.is_file() for file in job.outputs if file.name == "checkpoint.pt")


def remove(found: Sequence[Removable], results: Path) -> tuple[list[Removable], list[str]]:
    """Remove checkpoints, after one more look at each; what is removed is listed in :data:`REMOVED` before.

    The caller holds the lock of the results folder, so no workflow writes to it.

    Returns:
        What was removed, and a sentence for each that was not.

    Raises:
        NotWrittenError: if the list cannot be written; nothing more is removed then.
    """
    removed, refused = [], []
    for entry in found:
        work = results / "work" / entry.training
        lock = NamedLock(work / "user")
        try:
            if work.is_dir() and not lock.take():
                refused.append(f"{entry.file}: not removed, {lock.holder} works on it")
                continue
        except NoLocksError:
            pass  # other processes cannot be detected
        try:
            if entry.file.is_symlink() or checksum(entry.file) != entry.sha256:
                refused.append(f"{entry.file}: not removed, it is not the file that its record describes")
                continue
            _note(entry, results)
            remove_listed(entry.file.parent, [entry.file.name])
            forget_finished(work)  # second names of the same file, which would keep its space
            removed.append(entry)
        except FileNotFoundError:
            refused.append(f"{entry.file}: not removed, it is gone already")
        finally:
            lock.release()
    return removed, refused


def _note(entry: Removable, results: Path) -> None:
    """Append a line to the list of what was removed, and have it on disk."""
    file = results / REMOVED
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if not file.exists():
        writer.writerow(_COLUMNS)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    path = entry.file.relative_to(results).as_posix()
    writer.writerow((now, entry.training, path, entry.size, entry.sha256, entry.seconds))
    try:
        with file.open("a", encoding="utf-8") as stream:
            stream.write(text.getvalue())
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise not_written(file, error) from error
