"""Whether a configuration can be read; Snakemake opens it first otherwise, and tells neither file nor line of a mistake."""

import argparse
from pathlib import Path

from model.common.command_line import run
from model.config.reading import load_config


def main() -> None:
    """Parse the command line and read the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configfile", type=Path, default=Path("config.yaml"))
    load_config(parser.parse_args().configfile)


if __name__ == "__main__":
    run(main)
