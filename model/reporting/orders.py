"""How much results depend on the order in which classes are learnt."""

from __future__ import annotations

import re

import pandas as pd

from model.reporting.bounds import method_order
from model.reporting.printed import Cell, Row, Table, natural
from model.reporting.summary import SECTION, column_of

_ORDER = re.compile(r"(\d+-\d+)(?:[a-z]|\..+)?")
COLUMNS = (*SECTION, "scenario", "method", "group", "metric", "orders", "mean", "std", "lowest", "highest")


def order_rows(summary: pd.DataFrame) -> pd.DataFrame:
    """Mean, sample standard deviation and extremes over class orders of the means over seeds.

    Args:
        summary: from :func:`model.reporting.summary.summarise`.

    Returns:
        Columns :data:`COLUMNS`; ``scenario`` without the order. Methods that were run in one order only are left out.
    """
    names = [match[1] if (match := _ORDER.fullmatch(name)) else name for name in summary["scenario"]]
    rows = []
    keys = [*SECTION, "scenario", "method", "group", "metric"]
    for key, part in summary.assign(scenario=names).groupby(keys, sort=True):
        if len(part) > 1:
            values = part["mean"]
            rows.append((*key, len(part), values.mean(), values.std(ddof=1), values.min(), values.max()))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def order_tables(orders: pd.DataFrame) -> list[Table]:
    """A table per dataset, task, setting, recipe and protocol.

    Args:
        orders: from :func:`order_rows`.
    """
    tables = []
    for key, part in orders.groupby(list(SECTION), sort=True):
        dataset, task, setting, recipe, protocol = map(str, key)
        rows = []
        for scenario in sorted(part["scenario"].unique(), key=natural):
            of_scenario = part[part["scenario"] == scenario]
            for method in method_order(of_scenario["method"]):
                for row in of_scenario[of_scenario["method"] == method].to_dict("records"):
                    texts = (
                        scenario,
                        str(column_of(task, row["group"], row["metric"])),
                        f"{row['mean']:.2f} ± {row['std']:.2f}",
                        f"{row['lowest']:.2f} to {row['highest']:.2f}",
                        str(row["orders"]),
                    )
                    rows.append(Row(method, tuple(map(Cell, texts))))
        head = tuple(("", name) for name in ("scenario", "classes", "mean ± deviation", "range", "orders"))
        title = f"Over class orders: {dataset}, {task}, {setting}, recipe {recipe}, protocol {protocol}"
        tables.append(Table(title, "method", head, tuple(rows)))
    return tables
