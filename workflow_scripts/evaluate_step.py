"""Evaluate one checkpoint on the validation images under one protocol."""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from model.common.command_line import read_argument, run, say
from model.common.devices import choose_device, choose_workers
from model.common.files import atomic_file
from model.common.fingerprints import PROJECT
from model.common.locks import exclusive_lock
from model.common.provenance import Basis, Provenance, basis, contents
from model.evaluation.job import evaluate_checkpoint
from model.reporting.records import EvaluationRecord
from model.training.record import git_state, machine, now, versions
from model.training.work_folder import keep_finished, restore_finished
from model.workflow.jobs import evaluation_code


def main() -> None:
    """Parse the command line; evaluate, unless that was done before and only the workflow did not see it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--spec", required=True, help="JSON, or @FILE with it: dataset, task, step, protocol, method and geometry"
    )
    parser.add_argument("--data", required=True, type=Path, help="dataset.json of the prepared dataset")
    parser.add_argument("--checkpoint", required=True, type=Path)
    parser.add_argument("--record", required=True, type=Path, help="evaluation.json to write")
    parser.add_argument("--counts", required=True, type=Path, help="raw counts to write (.npz)")
    parser.add_argument("--predictions", required=True, type=Path, help="predictions for the gallery to write (.npz)")
    parser.add_argument("--work", type=Path, help="folder that keeps finished outputs until the workflow has seen them")
    parser.add_argument("--split", default="val")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--workers", type=int, help="processes that read images; several by default on a GPU")
    arguments = parser.parse_args()
    spec = json.loads(read_argument(arguments.spec))
    read = {"dataset": arguments.data, "checkpoint": arguments.checkpoint}
    made_from = basis(spec, evaluation_code(spec), read, arguments.record)
    if arguments.work is None:
        evaluate(spec, made_from, arguments)
        return
    outputs = {
        "predictions.npz": arguments.predictions,
        "counts.npz": arguments.counts,
        "evaluation.json": arguments.record,
    }
    with exclusive_lock(arguments.work, say):
        if not restore_finished(arguments.work, made_from.key, outputs, say):
            evaluate(spec, made_from, arguments)
            keep_finished(arguments.work, made_from.key, outputs)


def evaluate(spec: dict[str, Any], made_from: Basis, arguments: argparse.Namespace) -> None:
    """Predict every validation image; write a few predictions, counts and, last, the record."""
    device = choose_device(arguments.device)
    started, clock = now(), time.perf_counter()
    evaluated = evaluate_checkpoint(
        spec,
        arguments.data.parent,
        arguments.checkpoint,
        split=arguments.split,
        device=device,
        workers=choose_workers(arguments.workers, device),
    )
    dataset, step, protocol, result = evaluated.dataset, evaluated.step, evaluated.protocol, evaluated.result
    with atomic_file(arguments.predictions) as stream:
        np.savez_compressed(stream, **result.pictures)
    result.counts.save(arguments.counts)
    written = contents((arguments.counts, arguments.predictions), arguments.record)
    seconds = time.perf_counter() - clock
    record = EvaluationRecord(
        dataset=spec["dataset"],
        task=spec["task"],
        protocol=protocol.name,
        step=step.index,
        classes=step.seen,
        names={category.id: category.name for category in dataset.categories},
        things=tuple(category.id for category in dataset.categories if category.isthing),
        background_is_labelled=dataset.background_is_labelled,
        images=result.images,
        per_class=result.per_class,
        files={result.kind: arguments.counts.name},
        made_by={
            **Provenance(made_from, written).document(),
            "checkpoint": str(arguments.checkpoint),
            "started": started,
            "ended": now(),
            "seconds": round(seconds, 3),
            "versions": versions(),
            "machine": machine(device),
            "git": git_state(PROJECT),
        },
    )
    record.write(arguments.record)
    rate = result.images / seconds
    print(f"{result.images} images, {rate:.1f} images/s, {result.headline} ({protocol.name})")


if __name__ == "__main__":
    run(main)
