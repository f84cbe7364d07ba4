"""Download published weights, and check that they are the ones; resumes where an interrupted call stopped."""

import argparse
import os
from pathlib import Path

from model.common.command_line import run
from model.data.download.fetching import Checksum, fetch


def main() -> None:
    """Parse the command line and obtain one file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True, help="where the file is published")
    parser.add_argument("--sha256", required=True, help="its checksum, or how it begins")
    parser.add_argument("--output", required=True, type=Path, help="where it goes")
    arguments = parser.parse_args()
    mirror = os.environ.get("SEGUE_MIRROR")
    url = f"{mirror.rstrip('/')}/weights/{arguments.output.name}" if mirror else arguments.url
    digest = fetch(url, arguments.output, checksum=Checksum("sha256", arguments.sha256))
    print(f"{arguments.output}: sha256 {digest}")


if __name__ == "__main__":
    run(main)
