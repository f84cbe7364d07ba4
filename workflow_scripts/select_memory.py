"""Choose the exemplars that a step replays, from the memory and the images of the step before."""

import argparse
import json
from pathlib import Path

from model.common.command_line import read_argument, run
from model.common.fingerprints import job_code
from model.common.json_files import write_checked
from model.common.provenance import basis, record_beside, write_record
from model.data.prepared.class_index import ClassIndex
from model.memory.memory_file import read_memory
from model.memory.selection import make_memory
from model.splits.split_file import read_split


def main() -> None:
    """Parse the command line and write one memory file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", required=True, help="JSON, or @FILE with it: selection, size and seed")
    parser.add_argument("--index", required=True, type=Path, help="class index of the training images")
    parser.add_argument("--split", required=True, type=Path, help="split file of the step before")
    parser.add_argument("--previous", type=Path, help="memory file of the step before; none at the first increment")
    parser.add_argument("--output", required=True, type=Path, help="memory file to write")
    arguments = parser.parse_args()
    spec = json.loads(read_argument(arguments.spec))
    record = record_beside(arguments.output)
    read = {"class index": arguments.index, "split": arguments.split, "previous memory": arguments.previous}
    made_from = basis(spec, job_code("select_memory.py"), read, record)
    memory = make_memory(
        read_memory(arguments.previous) if arguments.previous else None,
        read_split(arguments.split),
        ClassIndex.load(arguments.index),
        selection=spec["selection"],
        size=spec["size"],
        seed=spec["seed"],
    )
    print(f"{len(memory['images'])} exemplars of {len(memory['classes'])} classes for step {memory['step']}")
    write_checked(arguments.output, memory)
    write_record(record, made_from, [arguments.output])


if __name__ == "__main__":
    run(main)
