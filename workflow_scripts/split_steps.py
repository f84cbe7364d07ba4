"""List the images of one step and the classes whose labels it sees."""

import argparse
import json
from pathlib import Path

from model.command_line import run
from model.datasets.class_index import ClassIndex
from model.datasets.splits import make_split
from model.files import write_json
from model.scenario import Step


def main() -> None:
    """Parse the command line and write one split file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", required=True, help="JSON with task, setting and step (index, past, current)")
    parser.add_argument("--index", required=True, type=Path, help="class index of the training images")
    parser.add_argument("--output", required=True, type=Path, help="split file to write")
    arguments = parser.parse_args()
    spec = json.loads(arguments.spec)
    step = Step(spec["step"]["index"], tuple(spec["step"]["past"]), tuple(spec["step"]["current"]))
    split = make_split(ClassIndex.load(arguments.index), step, spec["task"], spec["setting"])
    print(f"step {step.index}: {len(split['images'])} images, {len(step.current)} new classes, {len(step.past)} past")
    write_json(arguments.output, split)


if __name__ == "__main__":
    run(main)
