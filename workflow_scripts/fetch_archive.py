"""Download an official archive of a dataset, verify it and unpack it; resumes where an interrupted call stopped."""

import argparse
import os
from pathlib import Path

from model.common.command_line import run
from model.data.download.archives import obtain, official_archives


def main() -> None:
    """Parse the command line and obtain one archive."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--archive", required=True, choices=sorted(official_archives()), help="its name in Segue")
    parser.add_argument("--root", required=True, type=Path, help="folder of the dataset")
    arguments = parser.parse_args()
    obtain(official_archives()[arguments.archive], arguments.root, os.environ.get("SEGUE_MIRROR"))


if __name__ == "__main__":
    run(main)
