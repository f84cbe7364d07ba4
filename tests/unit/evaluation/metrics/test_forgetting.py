"""Forgetting and averages over steps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.evaluation.metrics.forgetting import (
    StepsError,
    average_over_steps,
    class_forgetting,
    forgetting,
    mean_forgetting,
    require_steps,
)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([50.0, 70.0, 40.0], 30.0),  # the best earlier value, not the first
        ([50.0, 60.0], -10.0),  # getting better is negative forgetting
        ([None, 60.0, 60.0], 0.0),  # learnt in step 1
        ([None, 60.0], None),  # learnt in the last step
        ([60.0, None], None),
        ([], None),
    ],
)
def test_forgetting(values: list[float | None], expected: float | None) -> None:
    assert forgetting(values) == expected


@given(st.lists(st.floats(0, 100), min_size=2))
def test_forgetting_is_at_least_the_loss_since_the_first_step(values: list[float]) -> None:
    found = forgetting(values)
    assert found is not None and found >= values[0] - values[-1]


def test_groups_average_over_classes_with_a_past() -> None:
    of_classes = class_forgetting([{"1": 80.0, "2": 40.0}, {"1": 60.0, "2": 45.0, "3": 10.0}])
    assert of_classes == {"1": 20.0, "2": -5.0}
    assert mean_forgetting(of_classes, ["1", "2", "3"]) == 7.5
    assert mean_forgetting(of_classes, ["3"]) is None
    assert class_forgetting([]) == {}


def test_taking_in_a_difficult_class_is_not_forgetting() -> None:
    of_classes = class_forgetting([{"1": 80.0}, {"1": 80.0, "2": 10.0}])
    assert mean_forgetting(of_classes, ["1", "2"]) == 0


def test_average_over_steps() -> None:
    assert average_over_steps([70.0, 60.0, 20.0]) == 50
    with pytest.raises(StepsError):
        average_over_steps([])


@pytest.mark.parametrize(
    ("steps", "message"), [([0, 2], "step 1 was not"), ([1], "step 0 was not"), ([0, 0], "twice"), ([], "no step")]
)
def test_gaps_are_errors(steps: list[int], message: str) -> None:
    with pytest.raises(StepsError, match=f"plop/15-1: .*{message}"):
        require_steps(steps, "plop/15-1")


def test_any_order_will_do() -> None:
    require_steps([2, 0, 1], "run")
