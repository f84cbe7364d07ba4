"""Tests without golden data are skipped with the reason, or fail where the data are required."""

import golden
import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "golden_missing(reason): there is no recorded case for this test")


def pytest_runtest_setup(item: pytest.Item) -> None:
    marker = item.get_closest_marker("golden_missing")
    if marker is None:
        return
    if golden.required():
        pytest.fail(f"SEGUE_REQUIRE_GOLDEN=1, but {marker.args[0]}", pytrace=False)
    pytest.skip(marker.args[0])
