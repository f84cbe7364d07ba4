"""Evaluate one checkpoint on the validation images under one protocol."""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from model.common.command_line import run
from model.common.devices import choose_device, choose_workers
from model.common.files import atomic_file
from model.common.fingerprints import PROJECT
from model.data.prepared.dataset import PreparedDataset
from model.evaluation.evaluators import registry as evaluators
from model.evaluation.evaluators.base import EvaluationInputs
from model.evaluation.protocols import get
from model.methods import registry as methods
from model.networks import registry as networks
from model.reporting.records import EvaluationRecord
from model.scenario import Step
from model.training.checkpoint import load_checkpoint, load_network
from model.training.record import git_state, machine, now, versions


def main() -> None:
    """Parse the command line, predict every validation image and write record, counts and a few predictions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", required=True, help="JSON: dataset, task, step, protocol, method and geometry")
    parser.add_argument("--data", required=True, type=Path, help="dataset.json of the prepared dataset")
    parser.add_argument("--checkpoint", required=True, type=Path)
    parser.add_argument("--record", required=True, type=Path, help="evaluation.json to write")
    parser.add_argument("--counts", required=True, type=Path, help="raw counts to write (.npz)")
    parser.add_argument("--predictions", required=True, type=Path, help="predictions for the gallery to write (.npz)")
    parser.add_argument("--split", default="val")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--workers", type=int, help="processes that read images; several by default on a GPU")
    arguments = parser.parse_args()
    spec = json.loads(arguments.spec)
    step = Step(spec["step"]["index"], tuple(spec["step"]["past"]), tuple(spec["step"]["current"]))
    protocol = get(spec["protocol"]["name"])
    torch.set_num_threads(spec["threads"])
    device = choose_device(arguments.device)

    dataset = PreparedDataset.open(arguments.data.parent)
    checkpoint = load_checkpoint(arguments.checkpoint)
    if checkpoint.classes != step.seen:
        raise ValueError(
            f"{arguments.checkpoint}: knows classes {list(checkpoint.classes)}, but step {step.index} has {list(step.seen)}; "
            "it belongs to another step, scenario or class order: give the checkpoint of this step"
        )
    constructor = dict(checkpoint.network_arguments)
    network = networks.build(constructor.pop("name"), checkpoint.classes_per_step, constructor)
    load_network(network, checkpoint.network, arguments.checkpoint)
    method = methods.build(spec["method"]["name"], spec["method"]["hyper_parameters"], spec["family"])

    started, clock = now(), time.perf_counter()
    result = evaluators.evaluate(
        spec["family"],
        spec["task"],
        EvaluationInputs(
            network=network.to(device),
            method=method,
            step=step,
            dataset=dataset,
            split=arguments.split,
            protocol=protocol,
            size=spec["size"],
            batch_size=spec["batch_size"],
            device=device,
            workers=choose_workers(arguments.workers, device),
            shown=spec["gallery"],
        ),
    )
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
            "spec": spec,
            "checkpoint": str(arguments.checkpoint),
            "started": started,
            "ended": now(),
            "versions": versions(),
            "machine": machine(device),
            "git": git_state(PROJECT),
        },
    )
    with atomic_file(arguments.predictions) as stream:
        np.savez_compressed(stream, **result.pictures)
    result.counts.save(arguments.counts)
    record.write(arguments.record)
    rate = result.images / (time.perf_counter() - clock)
    print(f"{result.images} images, {rate:.1f} images/s, {result.headline} ({protocol.name})")


if __name__ == "__main__":
    run(main)
