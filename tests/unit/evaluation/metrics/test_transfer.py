"""Backward transfer and intransigence, worked out by hand."""

from __future__ import annotations

import pytest

from model.evaluation.metrics.transfer import backward_transfer, intransigence

STEPS = [
    {"sky": 60.0, "sea": 50.0},
    {"sky": 70.0, "sea": 20.0, "cat": 40.0},
    {"sky": 30.0, "sea": 25.0, "cat": 45.0, "dog": 10.0},
]
LEARNT = {"sky": 0, "sea": 0, "cat": 1, "dog": 2}


def test_backward_transfer_compares_with_the_step_in_which_a_class_was_learnt() -> None:
    assert backward_transfer(STEPS, LEARNT) == pytest.approx(
        {"sky": -30, "sea": -25, "cat": 5}
    )  # not with the best step


def test_intransigence_is_what_the_upper_bound_is_ahead_when_a_class_has_just_been_learnt() -> None:
    assert intransigence(STEPS, LEARNT, {"sky": 90, "cat": 55, "dog": 4}) == pytest.approx({"cat": 15, "dog": -6})


def test_classes_without_a_value_are_left_out() -> None:
    steps = [{"sky": 60.0, "sea": None}, {"sky": None, "sea": 20.0, "cat": 40.0}]
    assert backward_transfer(steps, LEARNT | {"cat": 1}) == {}
    assert intransigence(steps, {"cat": 1}, {}) == {} == intransigence(steps, {"cat": 1}, {"cat": None})
