"""Write the results site of a configuration: a folder of pages to look at, or to send."""

import argparse
from pathlib import Path

from model.common.command_line import run
from model.config.reading import load_config
from model.reporting.collect import released_rows
from model.reporting.published import read_published
from model.reporting.published_tables import published_tables
from model.reporting.site.pages import Planned, SiteContent, write_site
from model.reporting.summary import PRINTED, summarise
from model.reporting.summary_tables import summary_tables
from model.reporting.tables import read_csv
from model.reporting.verification import kept_runs
from model.workflow.plan import Plan
from model.workflow.plan_jobs import PUBLISHED
from model.workflow.reports_folder import Owner, plan_states, reports_of


def main() -> None:
    """Parse the command line and write the site."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configfile", type=Path, default=Path("config.yaml"))
    parser.add_argument("--out", type=Path, help="folder of the site; site/ beside the tables by default")
    arguments = parser.parse_args()
    plan = Plan(load_config(arguments.configfile))
    results = Path(plan.config.results)
    reports = reports_of(Owner.of(plan, [arguments.configfile]), results)
    tables = reports / "tables"
    if not (tables / "metrics.csv").is_file():
        raise ValueError(f"{tables / 'metrics.csv'} does not exist yet: run snakemake with this configuration first")
    jobs, states = plan_states(plan, results, [arguments.configfile])
    metrics, costs = read_csv(tables / "metrics.csv"), read_csv(tables / "costs.csv")
    published, released = read_published(PUBLISHED), released_rows(plan)
    notes = plan.notes
    kept = kept_runs(plan.runs, jobs, states)
    content = SiteContent(
        name=plan.config.results,
        metrics=metrics,
        per_class=read_csv(tables / "per_class.csv"),
        costs=costs,
        summary=summary_tables(summarise(metrics, published, notes, kept, released), costs),
        published=published_tables(published, summarise(metrics, published, notes, kept, released, PRINTED)),
        planned=Planned(plan, results, [str(arguments.configfile)], jobs, states),
    )
    folder = arguments.out or reports / "site"
    write_site(content, folder)
    print(folder / "index.html")


if __name__ == "__main__":
    run(main)
