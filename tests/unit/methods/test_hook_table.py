"""The table of who uses which hook, in docs/add-a-method.md, agrees with the classes."""

from __future__ import annotations

import sys
from pathlib import Path

PROJECT = Path(__file__).parents[3]
sys.path.insert(0, str(PROJECT / "workflow_scripts"))

from write_hook_table import BEGIN, END, HOOKS, hook_table, overrides  # noqa: E402

from model.methods.registry import METHODS, resolve  # noqa: E402


def documented() -> list[str]:
    page = (PROJECT / "docs" / "add-a-method.md").read_text(encoding="utf-8")
    return page.partition(BEGIN)[2].partition(END)[0].strip().splitlines()


def test_every_documented_row_agrees_with_the_code() -> None:
    """A method of one's own needs no row; a row that is there has to be right. ``make docs`` writes the table."""
    lines = documented()
    assert len(lines) > 20
    assert [line for line in lines if line not in hook_table().splitlines()] == [], "run `make docs`"


def test_every_hook_is_used_by_some_method_or_checked_by_the_base() -> None:
    methods = [resolve(name, family) for family in METHODS for name in METHODS[family]]
    unused = {hook for hook in HOOKS if not any(overrides(method, hook) for method in methods)}
    assert unused <= {"check", "forward", "after_update"}
