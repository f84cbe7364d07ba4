"""Write docs/published.md: every published number that Segue knows, as tables."""

import argparse
from pathlib import Path

from model.common.command_line import run
from model.reporting.published import read_published
from model.reporting.published_tables import ALONE, TITLE, published_tables
from model.reporting.table_formats import markdown_tables


def page(published: Path) -> str:
    """The complete page.

    Args:
        published: published_results.csv.
    """
    return markdown_tables(TITLE, ALONE, published_tables(read_published(published)))


def main() -> None:
    """Parse the command line and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--published", type=Path, default=Path("config/published_results.csv"))
    parser.add_argument("--output", type=Path, default=Path("docs/published.md"))
    arguments = parser.parse_args()
    arguments.output.write_text(page(arguments.published), encoding="utf-8")


if __name__ == "__main__":
    run(main)
