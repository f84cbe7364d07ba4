"""Bring a raw source into the prepared form; restartable, so an interrupted run goes on where it stopped."""

import argparse
import json
from pathlib import Path

from model.common.command_line import run
from model.common.environment import expand
from model.data.sources.registry import prepare


def main() -> None:
    """Parse the command line and prepare one dataset."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", required=True, help='JSON: {"name": …, "kind": …, "options": {…}}')
    parser.add_argument("--code", default="", help="fingerprint of the preparing code; other code starts from nothing")
    parser.add_argument("--manifest", required=True, type=Path, help="dataset.json to write; its folder holds the data")
    parser.add_argument("--workers", type=int, default=1, help="processes that read and write images")
    arguments = parser.parse_args()
    spec = json.loads(arguments.spec)
    options = {key: expand(value) for key, value in spec["options"].items()}
    folder = arguments.manifest.parent
    prepare(spec["kind"], options, folder, name=spec["name"], workers=arguments.workers, code=arguments.code)


if __name__ == "__main__":
    run(main)
