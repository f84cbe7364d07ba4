"""What happens besides jobs: one workflow at a time in a results folder, and what went wrong in one place."""

import time

from model.results_folder import Reservation, failures

RESERVATION = Reservation(RESULTS)
STARTED = time.time()


onstart:
    try:
        RESERVATION.take()
    except ValueError as error:
        raise WorkflowError(str(error)) from None


onerror:
    print("\nWhat went wrong:", *failures(RESULTS / "logs", STARTED), sep="\n", file=sys.stderr)
