"""Ranks of values in a column, and columns that are spanned."""

from __future__ import annotations

from model.reporting.printed import Table, natural, ranks


def test_best_and_second_best() -> None:
    assert ranks([10.0, 30.0, 20.0, None]) == [0, 1, 2, 0]


def test_values_that_are_printed_alike_rank_alike() -> None:
    assert ranks([30.001, 30.002, 29.0, 28.0]) == [1, 1, 2, 0]


def test_a_lone_value_is_not_the_best_and_of_two_the_other_is_not_second() -> None:
    assert ranks([10.0, None]) == [0, 0] and ranks([10.0, 20.0]) == [0, 1] and ranks([]) == []


def test_columns_of_one_scenario_are_spanned_together() -> None:
    head = (("15-5", "old"), ("15-5", "all"), ("15-1", "old"))
    assert Table("", "method", head, ()).spans == (("15-5", 2), ("15-1", 1))
    assert Table("", "method", (("", "a"), ("", "b")), ()).spans == ()


def test_scenarios_are_ordered_by_their_numbers() -> None:
    assert sorted(["15-1", "2-1", "15-5", "19-1", "15-1b"], key=natural) == ["19-1", "15-5", "15-1", "15-1b", "2-1"]
