"""Tables of scenarios, and the page that is made of them."""

import importlib.util
import os
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from presence_lists import class_index

from model.config.reading import load_config
from model.data.prepared.class_index import ClassIndex
from model.data.prepared.dataset import Category
from model.reporting.scenario_tables import counts, ranges, step_table, validation_counts
from model.scenario import Scenario

PROJECT = Path(__file__).parents[3]


@given(st.sets(st.integers(1, 60), min_size=1))
def test_ranges_say_every_number_once_and_join_neighbours(numbers: set[int]) -> None:
    parts = [part.split("–") for part in ranges(list(numbers)).split(", ")]
    spans = [range(int(part[0]), int(part[-1]) + 1) for part in parts]
    assert [number for span in spans for number in span] == sorted(numbers)
    assert all(one.stop < other.start for one, other in pairwise(spans))


def test_a_table_has_a_row_a_step() -> None:
    scenario = Scenario("2-1", ((0, 1), (2,)))
    categories = [Category(k, name, True, (0, 0, 0)) for k, name in enumerate(("sky", "road", "car"))]
    assert step_table(scenario, categories, {"overlapped": (1200, 3)}, first_label=1).splitlines() == [
        "| step | overlapped | number | labels | classes |",
        "|---|---|---|---|---|",
        "| 0 | 1,200 | 2 | 1–2 | sky, road |",
        "| 1 | 3 | 1 | 3 | car |",
    ]


def test_images_are_counted_by_both_rules() -> None:
    index = ClassIndex("toy", "train", ("a", "b", "c"), (0, 1, 2), np.array([[1, 0, 1], [0, 1, 0], [0, 0, 1]]))
    scenario = Scenario("2-1", ((0, 1), (2,)))
    assert counts(index, scenario, "semantic") == {"overlapped": (2, 2), "disjoint": (1, 2)}
    assert validation_counts(index, scenario, "semantic") == (2, 3)


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "write_scenarios", PROJECT / "workflow_scripts" / "write_scenarios.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(not os.environ.get("SEGUE_DATA"), reason="SEGUE_DATA is not set: lists of classes are not at hand")
def test_the_page_is_what_the_script_writes() -> None:
    files = sorted((PROJECT / "config" / "published").glob("*.yaml"))
    configs = [load_config(file, PROJECT / "config" / "recipes") for file in files]
    indices = {("voc", split): class_index("voc", split) for split in ("train", "val")}
    indices |= {("ade20k", split): class_index("ade20k", split, 0) for split in ("train", "val")}
    page = script().page(configs, indices)
    assert page == (PROJECT / "docs" / "scenarios.md").read_text(encoding="utf-8")
    assert "| 1 | 1,710 | 861 | 1,130 | 2,000 | 10 | 101–110 |" in page
