"""Fetch a published list of images and check that it is the one."""

import argparse
import os
from pathlib import Path

from model.common.command_line import run
from model.splits.image_list_download import obtain_list
from model.splits.image_lists import published_lists


def main() -> None:
    """Parse the command line and obtain one list."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", required=True, help="kind of the dataset that the list belongs to")
    parser.add_argument("--list", required=True, help="its file, as published")
    parser.add_argument("--output", required=True, type=Path, help="where it goes")
    arguments = parser.parse_args()
    known = {wanted.file: wanted for lists in published_lists(arguments.kind) for wanted in lists.steps}
    if arguments.list not in known:
        parser.error(
            f"no list '{arguments.list}' is published for {arguments.kind}; known: {', '.join(known) or 'none'}"
        )
    obtain_list(known[arguments.list], arguments.output, os.environ.get("SEGUE_MIRROR"))
    print(f"{arguments.output}: the published list of {known[arguments.list].images} images")


if __name__ == "__main__":
    run(main)
