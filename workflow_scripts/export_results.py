"""Write the results of a configuration to one file to send: tables, records and provenance, without checkpoints and images."""

import argparse
from importlib import metadata
from pathlib import Path

from model.common.command_line import run
from model.config.reading import load_config
from model.reporting.results_archive import write_archive
from model.reporting.shared_results import shared_files
from model.reporting.site.origins import origins
from model.workflow.plan import Plan
from model.workflow.reports_folder import Owner, plan_states, reports_of


def main() -> None:
    """Parse the command line and write the archive."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configfile", type=Path, default=Path("config.yaml"))
    parser.add_argument("--out", type=Path, default=Path("results.zip"), help="archive to write (default: %(default)s)")
    arguments = parser.parse_args()
    plan = Plan(load_config(arguments.configfile))
    results = Path(plan.config.results)
    tables = reports_of(Owner.of(plan, [arguments.configfile]), results) / "tables"
    _, states = plan_states(plan, results, [arguments.configfile])
    configuration = plan.config.model_dump(mode="json", exclude_defaults=True, exclude={"recipes"})
    files = shared_files(plan, results, tables, origins(plan, results, states), configuration)
    write_archive(arguments.out, metadata.version("segue"), files)
    print(
        f"{arguments.out}: {len(files)} files, {arguments.out.stat().st_size / 1e6:.2f} MB, no checkpoint and no image"
    )


if __name__ == "__main__":
    run(main)
