"""Finished results that a workflow may remove to make them again: they stay at hand until it has seen everything end well."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from model.common.provenance import Basis
from model.training.work_folder import keep_finished
from model.workflow.state import TRAINED, Job, State


def link_results(jobs: Iterable[Job], states: Mapping[str, State], results: Path, again: bool) -> None:
    """Link finished trainings and evaluations into their work folders, before Snakemake removes what it runs again.

    One that turns out to be right as it is restores itself from there. One that was made from something else is restored if
    configuration or code go back to what they were before the new result is there (or by ``make keep``).

    Args:
        jobs: of the plan.
        states: of the jobs.
        results: folder of the work folders.
        again: whether jobs were named to be run again: those that are right as they are then are run indeed.
    """
    for job in jobs:
        state = states[job.name]
        if job.kind not in TRAINED or not state.complete or state.provenance is None:
            continue
        if state.name == "present" and again:
            continue
        record = state.provenance
        # Under the key that the job will have if what it reads comes out the same; otherwise under the one it had.
        basis = record.counts_as if state.certain else Basis(job.spec, job.code, record.counts_as.inputs)
        outputs = {file.name: file for file in job.outputs}
        keep_finished(results / "work" / job.name, basis.key, outputs, record.outputs)
