"""Keep finished results that a workflow may remove and make again, until that workflow has succeeded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from model.common.provenance import Basis
from model.training.work_folder import keep_finished
from model.workflow.state import TRAINED, Job, State


def link_results(jobs: Iterable[Job], states: Mapping[str, State], results: Path, again: bool) -> None:
    """Link finished trainings and evaluations into their work folders before Snakemake removes what it runs again.

    If a result turns out to be valid after all, the job takes it from there. If it was made from something else, it is restored
    when configuration or code go back to what they were before the new result exists, or by ``make keep``.

    Args:
        jobs: of the plan.
        states: of the jobs.
        results: folder of the work folders.
        again: whether the user asked for jobs to be run again; valid results are then not kept, so the jobs really run.
    """
    for job in jobs:
        state = states[job.name]
        if job.kind not in TRAINED or not state.complete or state.provenance is None:
            continue
        if state.name == "present" and again:
            continue
        record = state.provenance
        # Under the key that the job will have if its inputs come out the same, otherwise under the key it was made with.
        basis = record.counts_as if state.certain else Basis(job.spec, job.code, record.counts_as.inputs)
        outputs = {file.name: file for file in job.outputs}
        keep_finished(results / "work" / job.name, basis.key, outputs, record.outputs)
