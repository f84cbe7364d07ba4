"""Which jobs run: decided from the records of the results and announced before anything starts."""

from functools import cache

from model.workflow.changes import losses
from model.workflow.reports_folder import plan_states


def tell(text):
    print(text, file=sys.stderr, flush=True)


def look():
    """All jobs of the configuration and their current states."""
    raw = {dataset: raw_state(dataset) for dataset in PLAN.datasets}
    return plan_states(PLAN, RESULTS, workflow.configfiles, raw, tell)


def follows_times():
    """Whether the user forces jobs to run; everything that depends on them then runs as well."""
    asked = workflow.dag_settings
    return workflow.is_main_process and bool(asked.forcerun or asked.forceall or asked.forcetargets)


@cache
def known_states():
    """Jobs, their states and the outputs to be made; computed, and announced, when Snakemake asks for the first input."""
    jobs, found = look()
    if lines := losses(jobs, found):
        tell("\n".join(["", *lines, ""]))
    again = {str(file) for job in jobs if found[job.name].name != "present" for file in job.outputs}
    workflow.dag.forcefiles.update(again)
    return jobs, found, again


def known(files):
    """Input files whose changes are detected by content (``model/workflow/state.py``), not by time.

    ``files`` is a path with wildcards, or a function of the wildcards.
    """

    def expanded(wildcards):
        # Snakemake's own knowledge of parameters, code and inputs does not travel with the results.
        workflow.dag_settings.rerun_triggers = frozenset()
        try:
            found = files(wildcards) if callable(files) else str(files).format(**dict(wildcards.items()))
        except NotPlanned as unknown:
            return [str(unknown)]  # reported as a missing file, without a traceback
        found = [str(file) for file in (found if isinstance(found, list) else [found])]
        if not workflow.is_main_process:  # a process for one job or a group of jobs, perhaps on another machine
            return found if len(workflow.dag_settings.target_jobs) > 1 else ancient(found)
        _, _, again = known_states()
        return found if follows_times() else [file if file in again else ancient(file) for file in found]

    return expanded


def long_arguments(jobs):
    """Texts that may be too long for a command."""
    for job in jobs:
        yield canonical_json(job.spec)
        if job.kind == "gallery":
            yield canonical_json(job.spec["classes"])
    for comparison in COMPARISONS.values():
        yield canonical_json(files_of(loss_files(comparison)))
        yield canonical_json(files_of(memory_files(comparison)))
