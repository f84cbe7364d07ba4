"""Train one step: from a job description, data, split, memory and previous checkpoint to the next checkpoint."""

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from model.common.command_line import read_argument, run, say
from model.common.devices import choose_device, choose_workers
from model.common.fingerprints import PROJECT
from model.common.json_files import write_checked
from model.common.locks import exclusive_lock
from model.common.provenance import Basis, Provenance, basis, contents
from model.training.checkpoint import save_checkpoint
from model.training.interruption import Interrupted
from model.training.job import JobError, JobFiles, initial_weights_file, run_job
from model.training.processes import Lost, Processes, joined, leave, meeting_numbers
from model.training.progress import Progress
from model.training.record import git_state, machine, now, peak_memory, versions
from model.training.resume import SNAPSHOT_MINUTES, ResumeKey, Snapshots, snapshot_minutes
from model.training.spec import TrainingSpec, parse_spec
from model.training.status import StatusFile
from model.training.trackers import Trackers, wanted_trackers
from model.training.work_folder import keep_finished, restore_finished
from model.workflow.jobs import training_code

SNAPSHOTS = "snapshots"


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", required=True, help="job description as JSON, or @FILE with the same content")
    parser.add_argument("--data", required=True, type=Path, help="prepared dataset: its folder or its dataset.json")
    parser.add_argument("--split", required=True, type=Path, help="images and visible classes of the step")
    parser.add_argument("--memory", type=Path, help="exemplars to replay")
    parser.add_argument("--previous", type=Path, help="checkpoint of the step before")
    parser.add_argument("--checkpoint", required=True, type=Path, help="checkpoint to write; it is written last")
    parser.add_argument("--record", required=True, type=Path, help="train.json to write")
    parser.add_argument("--curves", required=True, type=Path, help="train.csv to write")
    parser.add_argument("--work", required=True, type=Path, help="folder for snapshots and TensorBoard events")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--workers", type=int, help="processes that read images; default 0 on a CPU, up to 8 for a GPU")
    parser.add_argument(
        "--snapshot-minutes",
        type=float,
        help=f"time between two snapshots; default ${SNAPSHOT_MINUTES} or 10",
    )
    parser.add_argument(
        "--micro-batch", type=int, help="images of one forward pass at most, where a batch does not fit; default all"
    )
    return parser.parse_args()


def main() -> None:
    """Parse the command line; train, unless that was done before and only the workflow did not see it.

    Several processes started with the same arguments (docs/cluster.md) train together; the first of them reads what is there, and
    writes.
    """
    arguments = parse_arguments()
    snapshot_minutes(arguments.snapshot_minutes, os.environ)  # before anything else is done
    wanted_trackers(os.environ)
    if arguments.micro_batch is not None and arguments.micro_batch < 1:
        raise JobError(f"--micro-batch {arguments.micro_batch}: expected a number of images, at least 1")
    text = read_argument(arguments.spec)
    spec = parse_spec(text)
    data = arguments.data.parent if arguments.data.name == "dataset.json" else arguments.data
    files = JobFiles(data, arguments.split, arguments.previous, arguments.memory)
    numbers = meeting_numbers(os.environ)
    device = choose_device(arguments.device, 0 if numbers is None else numbers.local_rank)
    if numbers is not None and numbers.rank > 0:
        with joined(numbers, device) as processes:
            if processes is not None:
                follow(spec, files, device, processes, arguments)
        return
    outputs = {"train.csv": arguments.curves, "checkpoint.pt": arguments.checkpoint, "train.json": arguments.record}
    with exclusive_lock(arguments.work, say):
        described = json.loads(text)
        read = {
            "dataset": data / "dataset.json",
            "split": files.split,
            "previous checkpoint": files.previous,
            "memory": files.memory,
            "initial weights": initial_weights_file(spec),
        }
        made_from = basis(described, training_code(described), read, arguments.record)

        def needed() -> bool:
            return not restore_finished(arguments.work, made_from.key, outputs, say)

        if numbers is None:
            if not needed():
                return
            train(spec, files, made_from, device, None, arguments)
        else:
            with joined(numbers, device, needed) as processes:
                if processes is None:
                    return
                train(spec, files, made_from, device, processes, arguments)
        keep_finished(arguments.work, made_from.key, outputs)
        Snapshots(arguments.work / SNAPSHOTS, ResumeKey(made_from.parts)).clear()


def follow(
    spec: TrainingSpec, files: JobFiles, device: torch.device, processes: Processes, arguments: argparse.Namespace
) -> None:
    """Train with the first process, and write nothing."""
    with open(os.devnull, "w") as nowhere:
        run_job(
            spec,
            files,
            device=device,
            make_reporter=lambda iterations: Progress(iterations, log=nowhere),
            workers=choose_workers(arguments.workers, device),
            score=score_of(spec, files.data, device, arguments.workers),
            processes=processes,
            micro_batch=arguments.micro_batch,
        )


def train(
    spec: TrainingSpec,
    files: JobFiles,
    made_from: Basis,
    device: torch.device,
    processes: Processes | None,
    arguments: argparse.Namespace,
) -> None:
    """Train; write curves, checkpoint and, last, the record of both."""
    started, key = now(), ResumeKey(made_from.parts)
    minutes = snapshot_minutes(arguments.snapshot_minutes, os.environ)
    snapshots = Snapshots(arguments.work / SNAPSHOTS, key, seconds=60 * minutes, say=say)
    count = 1 if processes is None else processes.count
    status = StatusFile(arguments.work, machine(device)["device"], count)
    status.write()
    reporters: list[Progress] = []
    title = arguments.work.absolute().as_posix().rpartition("/work/")[2] or arguments.work.name
    trackers = Trackers(wanted_trackers(os.environ), arguments.work, title, key.digest, made_from.spec, say)

    def make_reporter(iterations: int) -> Progress:
        reporters.append(
            Progress(
                iterations,
                bar=sys.stderr.isatty(),
                tensorboard=arguments.work / "tensorboard",
                log=sys.stdout,
                tell=status.write,
                trackers=trackers,
            )
        )
        return reporters[-1]

    step, method = spec.step.index, spec.method.name
    together = f", {count} processes" if count > 1 else ""
    say(f"{spec.dataset}, {spec.setting}, step {step}, {method}, seed {spec.seed}, on {device.type}{together}")
    completed = False
    try:
        outcome = run_job(
            spec,
            files,
            device=device,
            make_reporter=make_reporter,
            snapshots=snapshots,
            workers=choose_workers(arguments.workers, device),
            score=score_of(spec, files.data, device, arguments.workers),
            processes=processes,
            micro_batch=arguments.micro_batch,
        )
        completed = True
    finally:
        for reporter in reporters:
            reporter.close()
        trackers.close(completed)
    reporters[-1].write_curves(arguments.curves)
    save_checkpoint(arguments.checkpoint, outcome.checkpoint)
    written = contents((arguments.checkpoint, arguments.curves), arguments.record)
    write_checked(
        arguments.record,
        {
            **Provenance(made_from, written).document(),
            "resume_key": key.digest,
            **outcome.facts,
            "final": {name: value for name, value in reporters[-1].curves[-1].items() if name != "iteration"},
            "started": started,
            "ended": now(),
            "seconds": round(snapshots.spent, 3),
            "peak_memory": peak_memory(device),
            "versions": versions(),
            "machine": {**machine(device), "processes": count, "micro_batch": arguments.micro_batch},
            "git": git_state(PROJECT),
        },
    )
    status.remove()


def score_of(
    spec: TrainingSpec, data: Path, device: torch.device, workers: int | None
) -> Callable[[nn.Module], float | None] | None:
    """What a recipe with ``keep_best`` chooses by; evaluation is imported for these alone."""
    if spec.recipe.keep_best is None:
        return None
    from model.evaluation.validation import validation_score

    return validation_score(spec, data, device, choose_workers(workers, device))


def start() -> None:
    """Run; a training that was asked to stop ends like any process that the signal ends."""
    try:
        main()
    except Interrupted as interruption:
        print(interruption, file=sys.stderr, flush=True)
        sys.exit(128 + interruption.signal_number)
    except Lost:
        leave()


if __name__ == "__main__":
    run(start)
