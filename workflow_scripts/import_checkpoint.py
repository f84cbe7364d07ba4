"""Take released weights, or a checkpoint from elsewhere, in the place of a trained step."""

import argparse
import json
import time
from pathlib import Path

import torch

from model.common.command_line import read_argument, run
from model.common.files import write_text
from model.common.fingerprints import PROJECT
from model.common.json_files import write_checked
from model.common.provenance import Provenance, basis, contents
from model.interop.importing import check_there, import_checkpoint
from model.training.checkpoint import save_checkpoint
from model.training.job import tensor_bytes
from model.training.record import git_state, machine, now, peak_memory, versions
from model.workflow.jobs import training_code


def main() -> None:
    """Parse the command line; write checkpoint, empty curves and, last, the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", required=True, help="job description as JSON, or @FILE with the same content")
    parser.add_argument("--file", required=True, type=Path, help="what is imported")
    parser.add_argument("--checkpoint", required=True, type=Path, help="checkpoint to write")
    parser.add_argument("--record", required=True, type=Path, help="train.json to write")
    parser.add_argument("--curves", required=True, type=Path, help="train.csv to write; nothing was trained")
    arguments = parser.parse_args()
    spec = json.loads(read_argument(arguments.spec))
    started, clock, cpu = now(), time.perf_counter(), torch.device("cpu")
    check_there(arguments.file)
    made_from = basis(spec, training_code(spec), {"imported file": arguments.file}, arguments.record)
    checkpoint = import_checkpoint(arguments.file, spec)
    save_checkpoint(arguments.checkpoint, checkpoint)
    write_text(arguments.curves, "iteration,learning_rate\n")
    written = contents((arguments.checkpoint, arguments.curves), arguments.record)
    facts = dict.fromkeys(("iterations", "batches_per_epoch", "images", "exemplars", "trainable_parameters"), 0)
    weights = {key: value for key, value in checkpoint.network.items() if value.is_floating_point()}
    write_checked(
        arguments.record,
        {
            **Provenance(made_from, written).document(),
            **facts,
            "parameters": sum(value.numel() for key, value in weights.items() if "running_" not in key),
            "state_bytes": tensor_bytes(checkpoint.method_state),
            "imported": spec["imported"],
            "started": started,
            "ended": now(),
            "seconds": round(time.perf_counter() - clock, 3),
            "peak_memory": peak_memory(cpu),
            "versions": versions(),
            "machine": machine(cpu),
            "git": git_state(PROJECT),
        },
    )
    print(f"{len(checkpoint.classes)} classes after step {checkpoint.step} from {arguments.file}")


if __name__ == "__main__":
    run(main)
