"""What happens besides jobs: one workflow at a time in a results folder, and what went wrong in one place."""

import time

from model.training.work_folder import forget_finished
from model.workflow.file_times import bring_to_the_present
from model.workflow.long_arguments import write_long_arguments
from model.workflow.reports_folder import Owner, take_over
from model.workflow.results_folder import ResultsLock, failures
from model.workflow.retention import RetentionError, keep_setting, remove, retention
from model.workflow.stopping import Interrupts
from model.workflow.unfinished import link_results

RESULTS_LOCK = ResultsLock(RESULTS)
STARTED = time.time()
INTERRUPTS = Interrupts()
try:
    KEPT_CHECKPOINTS = keep_setting(os.environ)
except RetentionError as error:
    raise WorkflowError(str(error)) from None


def remove_checkpoints():
    """Remove the checkpoints that nothing needs any more; whatever is in the way is told, the results are complete."""
    try:
        RESULTS_LOCK.acquire()
        removed, refused = remove(retention(PLAN, *look()).removable, RESULTS)
    except (ValueError, OSError) as problem:
        tell(f"checkpoints were not removed: {problem}")
        return
    for line in refused:
        tell(line)
    if removed:
        size = sum(entry.size for entry in removed) / 1e6
        tell(f"removed {len(removed)} checkpoints that nothing needs any more, {size:,.1f} MB (SEGUE_KEEP=last)")


onstart:
    INTERRUPTS.pass_on()
    try:
        RESULTS_LOCK.acquire()
        _, before, _ = known_states()
        jobs, now = look()
        if any(now[name].name != state.name for name, state in before.items()):
            raise ValueError(f"{RESULTS} has changed since this workflow looked at it; start it again")
        bring_to_the_present(jobs)
        write_long_arguments(RESULTS, [CONFIGURATION, *long_arguments(jobs)])
        link_results(jobs, now, RESULTS, again=follows_times())
        if moved := take_over(Owner.of(PLAN, workflow.configfiles), RESULTS):
            tell(moved)
    except (ValueError, OSError) as error:
        raise WorkflowError(str(error)) from None


onerror:
    whole = next((Path(file) for file in ([log] if isinstance(log, str) else log)), None)
    print(
        "\nWhat went wrong:",
        *failures(RESULTS / "logs", STARTED, whole, INTERRUPTS.first),
        sep="\n",
        file=sys.stderr,
    )


onsuccess:
    # Everything has finished successfully: nothing will have to be restored.
    for directory in (*PLAN.trainings, *PLAN.evaluations):
        forget_finished(RESULTS / "work" / directory)
    if KEPT_CHECKPOINTS == "last":
        remove_checkpoints()
