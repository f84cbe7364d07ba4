"""The results site: static pages in a folder that need no server and load nothing from elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import yaml

from model.common.files import write_text
from model.common.own_folders import claim
from model.reporting.printed import Table
from model.reporting.site.assets_of_packages import copy_assets
from model.reporting.site.charts import charts, title_of
from model.reporting.site.origins import origins
from model.reporting.site.pictures import comparison_pictures
from model.reporting.styles import method_styles
from model.reporting.summary_tables import LEAD
from model.reporting.table_formats import html_table
from model.workflow.plan import Plan
from model.workflow.state import Job, State

PAGES = (
    ("index", "Overview"),
    ("values", "Values"),
    ("curves", "Curves"),
    ("pictures", "Pictures"),
    ("classes", "Classes"),
    ("costs", "Costs"),
    ("origins", "Origins"),
)
SITE = "site"
"""What the folder holds, according to its marker."""
_HERE = Path(__file__).parent
_STATES = ("present", "stale", "missing")
_PANES = ("dataset", "task", "scenario", "recipe", "method", "seed", "step", "group", "metric")
_TEXT_COLUMNS = ("dataset", "task", "scenario", "setting", "recipe", "method", "protocol", "group", "metric", "class")


@dataclass(frozen=True)
class Planned:
    """The configuration that a site is about.

    Attributes:
        plan: of the configuration.
        results: folder that holds what it describes.
        files: that the configuration was read from.
        jobs, states: of the plan.
    """

    plan: Plan
    results: Path
    files: Sequence[str]
    jobs: Sequence[Job]
    states: Mapping[str, State]


@dataclass(frozen=True)
class SiteContent:
    """What a site shows.

    Attributes:
        name: at the top of every page.
        metrics, per_class, costs: of the tables.
        summary: tables of the overview.
        published: the papers' tables with our values.
        planned: where the tables are those of one configuration; without it there are no pictures.
        origins: where the numbers come from, if there is no configuration to take it from.
    """

    name: str
    metrics: pd.DataFrame
    per_class: pd.DataFrame
    costs: pd.DataFrame
    summary: Sequence[Table]
    published: Sequence[Table]
    planned: Planned | None = None
    origins: Sequence[Mapping[str, Any]] = ()


def write_site(content: SiteContent, folder: Path) -> None:
    """Write all pages; those of an earlier site are replaced.

    Args:
        content: what to show.
        folder: of the site.

    Raises:
        ForeignFolderError: if the folder holds files that are not those of a site.
        AssetError: if a package that the site needs is not installed.
        ValueError: if a file of predictions is damaged.
    """
    claim(folder, SITE)
    copy_assets(folder / "assets")
    for name in ("site.css", "site.js"):
        write_text(folder / "assets" / name, (_HERE / "assets" / name).read_text(encoding="utf-8"))
    styles = method_styles(content.metrics["method"].unique())
    drawn = charts(content.metrics, content.per_class, styles)
    values = _rows(content.metrics)
    costs = _rows(content.costs)
    own: dict[str, dict[str, Any]] = {
        "index": {
            "lead": LEAD,
            "tables": "".join(map(html_table, content.summary)),
            "compared": "".join(map(html_table, content.published)),
            "states": [],
        },
        "values": {"data": values, "panes": _panes(content.metrics)},
        "curves": {"data": drawn},
        "classes": {"data": [chart for chart in drawn if chart["of_classes"]]},
        "costs": {"data": costs, "panes": _panes(content.costs)},
    }
    if (planned := content.planned) is not None:
        own["index"] |= {
            "states": _states(planned.jobs, planned.states),
            "files": list(planned.files),
            "configuration": _configuration(planned.plan),
        }
        own["pictures"] = {"data": _pictures(planned, folder)}
        own["origins"] = {"runs": origins(planned.plan, planned.results, planned.states)}
    elif content.origins:
        own["origins"] = {"runs": content.origins}
    pages = [(page, heading) for page, heading in PAGES if page in own]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}  # methods and classes have an order
    common = {
        "name": content.name,
        "pages": pages,
        "version": metadata.version("segue"),
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }
    for page, heading in pages:
        text = environment.get_template(f"{page}.html").render(page=page, heading=heading, **common, **own[page])
        write_text(folder / f"{page}.html", text)


def _pictures(planned: Planned, folder: Path) -> list[dict[str, Any]]:
    found = []
    for number, comparison in enumerate(planned.plan.comparisons):
        shown = comparison_pictures(comparison, planned.results, folder, f"pictures/{number}")
        if shown is not None:
            identity = comparison.identity
            names = ("dataset", "task", "scenario", "setting", "recipe", "protocol")
            found.append({"title": title_of(tuple(str(identity[name]) for name in names)), **shown})
    return found


def _rows(frame: pd.DataFrame) -> dict[str, Any]:
    """A table as plain data; numbers are rounded to what is read."""
    numbers = [place for place, name in enumerate(frame.columns) if name not in _TEXT_COLUMNS]
    rows = frame.round(3).astype(object).where(frame.notna(), None)
    return {"columns": list(frame.columns), "numbers": numbers, "rows": rows.to_numpy().tolist()}


def _panes(frame: pd.DataFrame) -> list[str]:
    """Columns worth filtering by."""
    return [name for name in _PANES if name in frame and frame[name].nunique() > 1]


def _states(jobs: Sequence[Job], states: Mapping[str, State]) -> list[tuple[str, list[int]]]:
    counts = Counter[tuple[str, str]]((job.kind, states[job.name].name) for job in jobs)
    return [(kind, [counts[kind, state] for state in _STATES]) for kind in dict.fromkeys(job.kind for job in jobs)]


def _configuration(plan: Plan) -> str:
    content = plan.config.model_dump(mode="json", exclude_defaults=True, exclude={"recipes"})
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
