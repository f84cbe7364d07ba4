"""Environment variables in configured values."""

import pytest

from model.common.environment import expand, not_set


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("SEGUE_TEST", "/data")
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.delenv("SEGUE_NOT_SET", raising=False)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("$SEGUE_TEST/a", "/data/a"),
        ("${SEGUE_TEST}a", "/dataa"),
        ({"a": ["$SEGUE_TEST", 3, {"b": "~/x"}]}, {"a": ["/data", 3, {"b": "/home/me/x"}]}),
        ("~", "/home/me"),
        ("~other", "~other"),
        ("a~/b", "a~/b"),
        ("$SEGUE_NOT_SET/a", "$SEGUE_NOT_SET/a"),
        (None, None),
    ],
)
def test_what_is_set_is_filled_in(value, expected):
    assert expand(value) == expected


@pytest.mark.parametrize(
    "text", ["$SEGUE_NOT_SET/a", "${SEGUE_NOT_SET}/a", "b/$SEGUE_NOT_SET", "$SEGUE_TEST/$SEGUE_NOT_SET"]
)
def test_what_is_not_set_is_named(text):
    for value in (text, ["$SEGUE_TEST", text], {"a": {"b": [text]}}):
        assert not_set(value) == f"SEGUE_NOT_SET is not set (in '{text}'): export it, or write its value"


@pytest.mark.parametrize("value", ["", "$SEGUE_TEST/a", "costs 5 $", None, 3, ["a", {"b": "~/c"}]])
def test_nothing_is_said_where_nothing_is_missing(value):
    assert not_set(value) == ""
