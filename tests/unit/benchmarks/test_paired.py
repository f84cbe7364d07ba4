"""Comparisons that every benchmark prints."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).resolve().parents[3] / "benchmarks" / "paired.py"


@pytest.fixture(scope="module")
def paired():
    spec = importlib.util.spec_from_file_location("paired", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["paired"] = module  # dataclasses look their module up
    path = list(sys.path)
    spec.loader.exec_module(module)
    yield module
    sys.path[:] = path
    del sys.modules["paired"]


def test_the_order_is_swapped_from_round_to_round(paired):
    called = []
    paired.compare("case", lambda: called.append("ours"), lambda: called.append("peer"), peer_name="x", rounds=4)
    assert called[2:] == ["peer", "ours", "ours", "peer", "peer", "ours", "ours", "peer"]


def test_the_ratio_is_that_of_each_round_and_above_one_if_the_peer_is_slower(paired):
    made = paired.Comparison("case", "x", (1.0, 2.0, 1.0), (3.0, 4.0, 10.0), (1.0, 2.0, 1.0), (1.0, 2.0, 1.0))
    assert made.ratios == [3, 2, 10]
    row = made.row()
    assert row["ratio"] == 3  # the median of the ratios, not the ratio of sums
    assert row["quartiles"] == [2.5, 6.5]
    assert row["cpu_ratio"] == 1


def test_rows_are_written_with_the_keys_that_every_benchmark_has(paired, tmp_path):
    made = paired.compare("case", lambda: sum(range(1000)), lambda: sum(range(2000)), peer_name="x", rounds=3, calls=5)
    paired.write([made], tmp_path / "new" / "file.json")
    (row,) = json.loads((tmp_path / "new" / "file.json").read_text())
    assert {"case", "ours", "baseline", "ratio"} <= set(row)


def test_one_round_has_no_quartiles(paired):
    with pytest.raises(ValueError, match="at least 2"):
        paired.compare("case", list, list, peer_name="x", rounds=1)


def test_the_device_is_waited_for_before_every_reading_of_the_clock(paired):
    events = []
    paired.compare(
        "case",
        lambda: events.append("ours"),
        lambda: events.append("peer"),
        peer_name="x",
        rounds=2,
        warm_up=0,
        wait=lambda: events.append("wait"),
    )
    assert events == ["wait", "peer", "wait", "wait", "ours", "wait", "wait", "ours", "wait", "wait", "peer", "wait"]
