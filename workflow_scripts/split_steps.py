"""List the images of one step and the classes whose labels it sees."""

import argparse
import json
from pathlib import Path

from model.command_line import run
from model.datasets.class_index import ClassIndex
from model.datasets.index_lists import parse_identity, read_index_list
from model.datasets.splits import make_split
from model.files import write_json
from model.scenario import Step


def main() -> None:
    """Parse the command line and write one split file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--spec", required=True, help="JSON with task, setting, step (index, past, current) and how images are chosen"
    )
    parser.add_argument("--index", required=True, type=Path, help="class index of the training images")
    parser.add_argument("--list", type=Path, help="list of the step's images; setting 'partition' only")
    parser.add_argument("--output", required=True, type=Path, help="split file to write")
    arguments = parser.parse_args()
    spec = json.loads(arguments.spec)
    step = Step(spec["step"]["index"], tuple(spec["step"]["past"]), tuple(spec["step"]["current"]))
    listed = None
    if arguments.list is not None:
        wanted = parse_identity(spec["listed"])
        listed = wanted, read_index_list(arguments.list, wanted)
    split = make_split(
        ClassIndex.load(arguments.index),
        step,
        spec["task"],
        spec["setting"],
        presence=spec.get("presence"),
        listed=listed,
        selection=spec.get("selection", ""),
    )
    print(f"step {step.index}: {len(split['images'])} images, {len(step.current)} new classes, {len(step.past)} past")
    write_json(arguments.output, split)


if __name__ == "__main__":
    run(main)
