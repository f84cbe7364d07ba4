"""List the images of one step and the classes whose labels it sees."""

import argparse
import json
from pathlib import Path

from model.common.command_line import read_argument, run
from model.common.fingerprints import job_code
from model.common.json_files import write_checked
from model.common.provenance import basis, record_beside, write_record
from model.data.prepared.class_index import ClassIndex
from model.scenario import Step
from model.splits.image_lists import parse_identity, read_image_list
from model.splits.selection import make_split


def main() -> None:
    """Parse the command line and write one split file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--spec",
        required=True,
        help="JSON, or @FILE with it: task, setting, step (index, past, current) and how images are chosen",
    )
    parser.add_argument("--index", required=True, type=Path, help="class index of the training images")
    parser.add_argument("--list", type=Path, help="list of the step's images; setting 'partition' only")
    parser.add_argument("--output", required=True, type=Path, help="split file to write")
    arguments = parser.parse_args()
    spec = json.loads(read_argument(arguments.spec))
    record = record_beside(arguments.output)
    read = {"class index": arguments.index, "image list": arguments.list}
    made_from = basis(spec, job_code("split_steps.py"), read, record)
    step = Step(spec["step"]["index"], tuple(spec["step"]["past"]), tuple(spec["step"]["current"]))
    image_list = None
    if arguments.list is not None:
        wanted = parse_identity(spec["image_list"])
        image_list = wanted, read_image_list(arguments.list, wanted)
    split = make_split(
        ClassIndex.load(arguments.index),
        step,
        spec["task"],
        spec["setting"],
        presence=spec.get("presence"),
        image_list=image_list,
        selection=spec.get("selection", ""),
    )
    print(f"step {step.index}: {len(split['images'])} images, {len(step.current)} new classes, {len(step.past)} past")
    write_checked(arguments.output, split)
    write_record(record, made_from, [arguments.output])


if __name__ == "__main__":
    run(main)
