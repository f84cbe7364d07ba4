"""Whether a configuration can be read; Snakemake opens it first otherwise, and tells neither file nor line of a mistake."""

import argparse
import os
from pathlib import Path

from model.common.command_line import run
from model.config.reading import load_config
from model.workflow.retention import keep_setting


def main() -> None:
    """Parse the command line, read the file, and look at the settings of the environment."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configfile", type=Path, default=Path("config.yaml"))
    load_config(parser.parse_args().configfile)
    keep_setting(os.environ)


if __name__ == "__main__":
    run(main)
