"""Put the tables of several results side by side: one summary, one site."""

import argparse
from pathlib import Path

from model.common.command_line import run
from model.reporting.joined import join
from model.reporting.published import read_published
from model.reporting.published_tables import published_tables, write_published
from model.reporting.site.pages import SiteContent, write_site
from model.reporting.summary import PRINTED, summarise
from model.reporting.summary_tables import markdown, summary_tables, write_summary
from model.reporting.tables import write_csv
from model.workflow.plan_jobs import PUBLISHED


def main() -> None:
    """Parse the command line; write the site with the tables in it, and print the summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="results folders, or archives of `make export-results`")
    parser.add_argument(
        "--out", required=True, type=Path, help="folder to write to; new, empty, or of an earlier comparison"
    )
    arguments = parser.parse_args()
    joined, published = join(arguments.runs), read_published(PUBLISHED)
    summary = summarise(joined.metrics, published, names=joined.names)
    beside = published_tables(published, summarise(joined.metrics, published, columns=PRINTED, names=joined.names))
    content = SiteContent(
        name=" and ".join(map(str, arguments.runs)),
        metrics=joined.metrics,
        per_class=joined.per_class,
        costs=joined.costs,
        summary=summary_tables(summary, joined.costs),
        published=beside,
        origins=joined.origins,
    )
    write_site(content, arguments.out)
    tables = arguments.out / "tables"
    write_summary(summary, tables, joined.costs)
    write_published(beside, tables)
    for name, table in (("metrics", joined.metrics), ("per_class", joined.per_class), ("costs", joined.costs)):
        write_csv(table, tables / f"{name}.csv")
    print(markdown(summary, joined.costs))
    print(arguments.out / "index.html")


if __name__ == "__main__":
    run(main)
