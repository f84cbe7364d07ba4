"""Results over class orders."""

from __future__ import annotations

import statistics

import pandas as pd
import pytest

from model.reporting.orders import order_rows, order_tables
from model.reporting.published import PublishedResults
from model.reporting.summary import summarise
from model.reporting.tables import METRIC_COLUMNS

VALUES = {"15-1": (30.0, 34.0), "15-1a": (40.0,), "15-1.mine-2": (10.0,), "15-5": (60.0,)}


@pytest.fixture
def summary() -> pd.DataFrame:
    rows = [
        ("voc", "semantic", scenario, "overlapped", "r101", "mib", seed, 5, "mib", "all", "mIoU", value)
        for scenario, values in VALUES.items()
        for seed, value in enumerate(values)
    ]
    return summarise(pd.DataFrame(rows, columns=list(METRIC_COLUMNS)), PublishedResults.empty())


def test_orders_of_one_scenario_are_summarised_by_their_means_over_seeds(summary: pd.DataFrame) -> None:
    (row,) = order_rows(summary).to_dict("records")
    assert (row["scenario"], row["method"], row["orders"]) == ("15-1", "mib", 3)
    assert row["mean"] == pytest.approx(statistics.mean([32, 40, 10])) and row["std"] == pytest.approx(
        statistics.stdev([32, 40, 10])
    )
    assert (row["lowest"], row["highest"]) == (10, 40)


def test_one_order_says_nothing_about_orders(summary: pd.DataFrame) -> None:
    assert order_rows(summary[summary["scenario"] == "15-5"]).empty
    assert order_tables(order_rows(summary[summary["scenario"] == "15-5"])) == []


def test_the_table_names_columns_as_the_summary_does(summary: pd.DataFrame) -> None:
    (table,) = order_tables(order_rows(summary))
    assert [cell.text for cell in table.rows[0].cells] == ["15-1", "all", "27.33 ± 15.53", "10.00 to 40.00", "3"]
