"""What happens besides jobs: one workflow at a time in a results folder, and what went wrong in one place."""

import time

from model.training.work_folder import forget_finished
from model.workflow.results_folder import ResultsLock, failures

RESULTS_LOCK = ResultsLock(RESULTS)
STARTED = time.time()


onstart:
    try:
        RESULTS_LOCK.acquire()
    except ValueError as error:
        raise WorkflowError(str(error)) from None


onerror:
    print("\nWhat went wrong:", *failures(RESULTS / "logs", STARTED), sep="\n", file=sys.stderr)


onsuccess:
    # Everything has finished successfully: no training will have to be restored.
    for directory in PLAN.trainings:
        forget_finished(RESULTS / "work" / directory)
