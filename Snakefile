"""Segue: continual (class-incremental) segmentation as one workflow. Start with README.md; `make demo` runs config.yaml."""

import time

from snakemake.utils import min_version

min_version("9.0")

if not workflow.config_settings.configfiles:

    configfile: "config.yaml"


report: "rules/captions/workflow.rst"


include: "rules/common.smk"
include: "rules/data.smk"
include: "rules/memory.smk"
include: "rules/train.smk"
include: "rules/evaluate.smk"
include: "rules/results.smk"
include: "rules/hooks.smk"


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


rule all:
    """Tables, curves and pictures of every experiment in the configuration."""
    default_target: True
    input:
        rules.tables.output,
        [
            RESULTS / "figures" / grid / f"{figure}.svg"
            for grid in GRIDS
            for figure in ("curves", "classes", "forgetting")
        ],
        [RESULTS / "figures" / grid / f"gallery_{method}.png" for grid, method in GALLERIES],


rule train_all:
    """Every training, without evaluating anything."""
    input:
        [RESULTS / directory / "checkpoint.pt" for directory in PLAN.trainings],


rule prepare_all:
    """Datasets, splits and those memories that need no network."""
    input:
        [RESULTS / file for file in PLAN.splits],
        [RESULTS / file for file in PLAN.memories],


onsuccess:
    # Everything is known to have ended well: nobody needs to be given a finished training back.
    from model.training.work_folder import forget_finished

    for directory in PLAN.trainings:
        forget_finished(RESULTS / "work" / directory)
