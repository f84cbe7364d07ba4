"""Accepting finished results under the current code and configuration instead of making them again."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from model.common.provenance import NO_FILE, Basis, Input, Kept, Provenance, relative, write_kept
from model.training.work_folder import restore_any
from model.workflow.contents import Contents
from model.workflow.plan import Plan
from model.workflow.state import (
    TRAINED,
    Job,
    State,
    code_difference,
    input_content,
    recorded_states,
    spec_differences,
)

IDENTITY = ("dataset", "task", "step")
"""Entries of a spec that a result must share with the plan to be accepted at all."""


class KeepError(ValueError):
    """There is nothing to accept; the message says why."""


def chosen(plan: Plan, jobs: Iterable[Job], only: Sequence[str]) -> set[str]:
    """Names of the selected jobs and of all jobs that they depend on.

    Args:
        plan: of the configuration.
        jobs: of the plan.
        only: labels of methods, or folders below the results folder; empty selects everything.

    Raises:
        KeepError: naming an entry that matches nothing.
    """
    listed = {job.name: job for job in jobs}
    if not only:
        return set(listed)
    found: set[str] = set()
    for entry in only:
        path = entry.removeprefix(f"{plan.config.results}/").rstrip("/")
        names = {name for name in listed if name == path or name.startswith(f"{path}/")}
        for run in plan.runs:
            if run.method == entry:
                names |= {training.directory for training in run.trainings}
                names |= {evaluation.directory for every in run.evaluations.values() for evaluation in every}
        if not names:
            methods = ", ".join(dict.fromkeys(run.method for run in plan.runs))
            raise KeepError(f"'{entry}' is neither a method ({methods}) nor a path below {plan.config.results}")
        found |= names
    pending = list(found)
    while pending:
        for read in listed[pending.pop()].inputs.values():
            if read.made_by is not None and read.made_by not in found:
                found.add(read.made_by)
                pending.append(read.made_by)
    return found


def keep(jobs: Sequence[Job], names: Collection[str], contents: Contents, reason: str) -> tuple[list[Job], list[str]]:
    """Accept the finished results of selected jobs as if they had been made under the current plan.

    Args:
        jobs: of the plan, each after those that make its inputs.
        names: of the selected jobs.
        contents: of files.
        reason: written to the records.

    Returns:
        The jobs that were accepted, and a sentence for each training or evaluation that could not be.
    """
    found = recorded_states(jobs, contents)
    by_name = {job.name: job for job in jobs}
    now = datetime.now(UTC).isoformat(timespec="seconds")
    accepted, refused = [], []
    right = {name for name, state in found.items() if state.name == "present"}
    for job in jobs:
        record = found[job.name].provenance
        if job.name in right or job.name not in names or job.final or record is None:
            continue
        problem = _problem(job, found[job.name], right)
        if problem is not None:
            refused += [f"{job.name}: {problem}"] * (job.kind in TRAINED)
            continue
        inputs = _inputs(job, record, by_name, found, contents)
        if differences := _differences(job, record, inputs):
            decision = Kept(Basis(job.spec, job.code, inputs), now, reason, tuple(differences))
            write_kept(job.record, replace(record, kept=(*record.kept, decision)))
            accepted.append(job)
        right.add(job.name)  # also if it was stale only because of an input that has now been accepted
    return accepted, refused


def bring_back(jobs: Iterable[Job], results: Path) -> list[str]:
    """Restore finished results that an interrupted workflow had removed to make them again.

    Returns:
        Names of the jobs.
    """
    found = []
    for job in jobs:
        if job.kind in TRAINED and not any(file.exists() for file in job.outputs):
            outputs = {file.name: file for file in job.outputs}
            if restore_any(results / "work" / job.name, outputs, lambda _: None):
                found.append(job.name)
    return found


def _problem(job: Job, state: State, right: Collection[str]) -> str | None:
    """Why a job cannot be accepted, or None."""
    assert state.provenance is not None
    if state.damaged:
        return "; ".join(reason.text for reason in state.reasons if reason.kind == "output")
    if job.changes:
        return "; ".join(job.changes)
    made_with = state.provenance.made_from.spec
    for key in IDENTITY:
        if isinstance(made_with, Mapping) and made_with.get(key) != job.spec.get(key):
            return f"it was made for another {key}"
    for name, read in job.inputs.items():
        if read.made_by is not None and read.made_by not in right:
            return f"its {name} ({read.made_by}) is made again"
    return None


def _inputs(
    job: Job, record: Provenance, jobs: Mapping[str, Job], states: Mapping[str, State], contents: Contents
) -> dict[str, Input]:
    """The inputs that the plan names, with their current content, or the recorded content if they no longer exist."""
    found = {}
    for name, read in job.inputs.items():
        content, recorded = input_content(name, job, jobs, states, contents), record.counts_as.inputs.get(name)
        content = recorded.sha256 if content is None and recorded is not None else content or NO_FILE
        found[name] = Input(relative(read.file, job.record.parent), content)
    return found


def _differences(job: Job, record: Provenance, inputs: Mapping[str, Input]) -> list[str]:
    """What is being accepted, one phrase per difference."""
    basis = record.counts_as
    found = spec_differences(basis.spec, job.spec)
    code = code_difference(basis.code, job.code)
    names = dict.fromkeys([*inputs, *basis.inputs])
    sums = [{name: entry.sha256 for name, entry in either.items()} for either in (inputs, basis.inputs)]
    others = [f"another {name}" for name in names if sums[0].get(name) != sums[1].get(name)]
    return [*found, *([code] if code is not None else []), *others]
