"""What a configuration would run: jobs, shared trainings, iterations, time and disk. Nothing is executed."""

import argparse
from collections import Counter
from pathlib import Path

from tabulate import tabulate

from model.common.command_line import run
from model.config.reading import load_config
from model.workflow.catalogue import network_values
from model.workflow.changes import duration, losses, summary, why
from model.workflow.estimates import Times, planned_times, time_lines
from model.workflow.history import present_hardware, read_history
from model.workflow.jobs import Training
from model.workflow.plan import Plan
from model.workflow.reports_folder import plan_states
from model.workflow.state import State

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


def all_times(plan: Plan, results: Path, folders: list[Path]) -> list[Times]:
    """What the plan will take on this machine, or else wherever trainings have finished, the busiest first."""
    history = read_history([results, *folders])
    here = [on for on in present_hardware() if history.hardware[on]]
    return [planned_times(plan, results, history, on) for on in here or dict(history.hardware.most_common())]


def time_text(state: State, times: Times | None, training: Training) -> str:
    """What a training took, or will take; empty for an import."""
    if state.name == "present" and state.provenance is not None and state.provenance.seconds is not None:
        return duration(state.provenance.seconds)
    return "" if times is None else times.of(training.directory)


def state_text(state: State, results: Path, training: Training) -> str:
    """The state; that a checkpoint was removed, and that it is needed again."""
    if state.provenance is None or (results / training.checkpoint).is_file():
        return state.name
    return f"{state.name}, checkpoint removed" if state.name == "present" else f"{state.name}: {why(state)}"


def main() -> None:
    """Parse the command line and print the plan."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configfile", type=Path, default=Path("config.yaml"))
    parser.add_argument(
        "--history",
        type=Path,
        nargs="*",
        default=[],
        help="further results folders whose records tell how long jobs take",
    )
    arguments = parser.parse_args()
    plan = Plan(load_config(arguments.configfile))
    results = Path(plan.config.results)

    jobs, found = plan_states(plan, results, [arguments.configfile])
    used = Counter(training.directory for run in plan.runs for training in run.trainings)
    times = all_times(plan, results, arguments.history)
    rows = []
    for training in plan.trainings.values():
        uses = used[training.directory]
        images = "shared by" if training.shared and uses > 1 else "for"
        rows.append(
            [
                training.directory,
                length([training]),
                f"{images} {uses} run{'s' * (uses > 1)}",
                time_text(found[training.directory], times[0] if times else None, training),
                state_text(found[training.directory], results, training),
            ]
        )
    print(
        tabulate(rows, headers=["training", "length", "use", "time", "state"], tablefmt="simple", disable_numparse=True)
    )

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
    on_disk = sum(file.stat().st_size for t in trainings if (file := results / t.checkpoint).is_file())
    print(f"Disk for checkpoints: about {disk / 1e6:,.1f} MB; {on_disk / 1e6:,.1f} MB are there now.")
    to_do = {name for name, state in found.items() if state.name != "present"}
    here = " or ".join(present_hardware())
    if not times or times[0].hardware not in present_hardware():
        elsewhere = "; the times below are those of other machines" if times else ""
        print(
            f"Time: no training of {results} has finished on this machine ({here}), so none is estimated for it{elsewhere}."
        )
    for on in times:
        print("\n".join(["", *time_lines(plan, on, to_do)]))
    print("\n".join(["", *summary(jobs, found)]))
    if lost := losses(jobs, found):
        print("\n".join(["", *(line for line in lost if not line.startswith("  "))]))
    print("`make why` tells what would run now, and why; `snakemake -n` lists the jobs.")


if __name__ == "__main__":
    run(main)
