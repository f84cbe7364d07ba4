"""Hold a part of the training images out, for validation: a dataset of its own, beside the whole one."""

import argparse
import json
from contextlib import nullcontext
from pathlib import Path

from model.common.command_line import read_argument, run, say
from model.common.fingerprints import job_code
from model.common.locks import exclusive_lock
from model.common.provenance import basis, record_beside, write_record
from model.data.prepared.held_out import hold_out


def main() -> None:
    """Parse the command line and write the divided dataset."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", required=True, help='JSON, or @FILE with it: {"name": …, "fraction": …, "seed": …}')
    parser.add_argument("--data", required=True, type=Path, help="dataset.json of the whole dataset")
    parser.add_argument("--output", required=True, type=Path, help="dataset.json to write; its folder holds the rest")
    parser.add_argument("--work", type=Path, help="folder whose lock keeps a second process from the data")
    arguments = parser.parse_args()
    spec = json.loads(read_argument(arguments.spec))
    record = record_beside(arguments.output)
    with exclusive_lock(arguments.work, say) if arguments.work else nullcontext():
        made_from = basis(spec, job_code("hold_out.py"), {"dataset": arguments.data}, record)
        stays, held_out = hold_out(
            arguments.data.parent,
            arguments.output.parent,
            name=spec["name"],
            fraction=spec["fraction"],
            seed=spec["seed"],
        )
        print(f"{stays} images stay for training, {held_out} are held out for validation")
        write_record(record, made_from, [arguments.output])


if __name__ == "__main__":
    run(main)
