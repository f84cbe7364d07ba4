"""Before anything is put into a table: whether every result belongs to the configuration, and which were accepted as they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from model.reporting.records import RecordError
from model.workflow.changes import why
from model.workflow.jobs import Run
from model.workflow.state import TRAINED, Job, State

_NAMED = 3
"""So many results are named in an error."""


def verify(jobs: Iterable[Job], states: Mapping[str, State]) -> None:
    """Refuse trainings and evaluations that were made from something else than the plan says.

    Args:
        jobs: of the plan.
        states: of the jobs.

    Raises:
        RecordError: naming the first ones, what they were made with and what the configuration says.
    """
    wrong = [job for job in jobs if job.kind in TRAINED and states[job.name].name != "present"]
    if wrong:
        named = "; ".join(f"{job.name}: {why(states[job.name])}" for job in wrong[:_NAMED])
        more = f"; {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        raise RecordError(
            f"{len(wrong)} results do not belong to this configuration and code: {named}{more}. Run the workflow again to have "
            "them made again, or accept them as they are with `make keep`"
        )


def kept_runs(runs: Iterable[Run], jobs: Sequence[Job], states: Mapping[str, State]) -> dict[tuple[object, ...], str]:
    """What was accepted of each run, in words; runs that are altogether as configured are left out.

    Args:
        runs: of the plan.
        jobs: of the plan, each after those that make its inputs.
        states: of the jobs.

    Returns:
        ``Run.key`` → differences between what made the run's results and what they were accepted as.
    """
    accepted: dict[str, dict[str, None]] = {}  # dictionaries keep the order
    for job in jobs:
        if states[job.name].kept:
            record = states[job.name].provenance
            own = [text for decision in record.kept for text in decision.differences] if record is not None else []
            before = [accepted.get(read.made_by, {}) for read in job.inputs.values() if read.made_by is not None]
            accepted[job.name] = dict.fromkeys([*(text for texts in before for text in texts), *own])
    found = {}
    for run in runs:
        names = [training.directory for training in run.trainings]
        names += [evaluation.directory for evaluations in run.evaluations.values() for evaluation in evaluations]
        texts = dict.fromkeys(text for name in names for text in accepted.get(name, {}))
        if texts:
            found[run.key] = "; ".join(texts)
    return found
