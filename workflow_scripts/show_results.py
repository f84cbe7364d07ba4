"""Print the summary of a finished run and where to find everything else."""

import argparse
from pathlib import Path

from model.common.command_line import run
from model.config.reading import load_config
from model.workflow.plan import Plan
from model.workflow.reports_folder import Owner, reports_of


def main() -> None:
    """Parse the command line and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configfile", type=Path, default=Path("config.yaml"))
    parser.add_argument("--folder", action="store_true", help="print only the results folder")
    arguments = parser.parse_args()
    config = load_config(arguments.configfile)
    results = Path(config.results)
    if arguments.folder:
        print(results)
        return
    reports = reports_of(Owner.of(Plan(config), [arguments.configfile]), results)
    summary = reports / "tables" / "summary.md"
    if not summary.is_file():
        raise ValueError(f"{summary} does not exist yet: run snakemake with this configuration first")
    print(f"\n{summary.read_text(encoding='utf-8')}")
    print(f"every value   {reports}/tables/metrics.csv, per class in per_class.csv")
    print(f"costs         {reports}/tables/costs.csv: parameters, replay storage, time, memory")
    for folder in sorted(path for path in (reports / "figures").glob("*") if path.is_dir()):
        print(f"pictures      {folder}/")
    print(f"curves        tensorboard --logdir {results}/work")
    print("in a browser  make site")
    print("one file      make report")


if __name__ == "__main__":
    run(main)
