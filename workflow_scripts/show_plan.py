"""What a configuration would run: jobs, shared trainings, iterations and disk. Nothing is executed."""

import argparse
from collections import Counter
from pathlib import Path

from tabulate import tabulate

from model.common.command_line import run
from model.config.reading import load_config
from model.workflow.catalogue import network_values
from model.workflow.changes import summary
from model.workflow.jobs import Training
from model.workflow.plan import Plan
from model.workflow.reports_folder import plan_states

BYTES_PER_VALUE = 4


def checkpoint_bytes(training: Training) -> int:
    """Size of the weights of a training's checkpoint."""
    network = training.spec["recipe"]["network"]
    arguments = {key: value for key, value in network.items() if key not in ("name", "weights")}
    return BYTES_PER_VALUE * network_values(network["name"], arguments, len(training.split.step.seen))


def length(trainings: list[Training]) -> str:
    """Iterations of some trainings; epochs where the number of images is not known before the splits are made."""
    iterations = sum(t.spec["recipe"]["iterations"] or 0 for t in trainings)
    epochs = sum(t.spec["recipe"]["epochs"] or 0 for t in trainings)
    parts = [f"{iterations:,} iterations"] * bool(iterations) + [f"{epochs:,} epochs"] * bool(epochs)
    return " + ".join(parts)


def main() -> None:
    """Parse the command line and print the plan."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configfile", type=Path, default=Path("config.yaml"))
    arguments = parser.parse_args()
    plan = Plan(load_config(arguments.configfile))
    results = Path(plan.config.results)

    jobs, found = plan_states(plan, results, [arguments.configfile])
    used = Counter(training.directory for run in plan.runs for training in run.trainings)
    rows = []
    for training in plan.trainings.values():
        uses = used[training.directory]
        images = "shared by" if training.shared and uses > 1 else "for"
        rows.append(
            [
                training.directory,
                length([training]),
                f"{images} {uses} run{'s' * (uses > 1)}",
                found[training.directory].name,
            ]
        )
    print(tabulate(rows, headers=["training", "length", "use", "state"], tablefmt="simple"))

    steps = sum(len(run.trainings) for run in plan.runs)
    trainings = list(plan.trainings.values())
    missing = [t for t in trainings if found[t.directory].name != "present"]
    sizes = Counter(checkpoint_bytes(t) for t in trainings)
    disk = sum(size * count for size, count in sizes.items())
    print(
        f"\n{len(plan.runs)} runs of {steps} steps need {len(trainings)} trainings: {steps - len(trainings)} are shared."
    )
    print(f"Training in all: {length(trainings)}; to be done: {length(missing) or 'nothing'}.")
    print(
        f"Jobs: {len(plan.datasets)} preparations, {len(plan.splits)} splits, {len(plan.memories)} memories, "
        f"{len(trainings)} trainings, {len(plan.evaluations)} evaluations."
    )
    print(f"Disk for checkpoints: about {disk / 1e6:,.1f} MB.")
    print("\n".join(["", *summary(jobs, found)]))
    print("`make why` tells what would run now, and why; `snakemake -n` lists the jobs.")


if __name__ == "__main__":
    run(main)
