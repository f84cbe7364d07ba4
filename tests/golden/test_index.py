"""Every group of the index has a test file or a row in ``pending.py``; every case of a tested group is used."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import golden
import pytest
from pending import PENDING

HERE = Path(__file__).parent


def implemented() -> set[str]:
    """Groups with a test file; other test files, such as this one, are not named after a group."""
    return {file.stem.removeprefix("test_") for file in HERE.glob("test_*.py")} & set(golden.TOLERANCES)


def groups() -> list[Any]:
    if golden.absence():
        return [golden.missing(str(golden.absence()))]
    known = {case.group for case in golden.index()} | set(PENDING) | implemented()
    return [
        pytest.param(group, marks=pytest.mark.xfail(strict=True, reason=PENDING[group]) if group in PENDING else ())
        for group in sorted(known)
    ]


@pytest.mark.parametrize("group", groups())
def test_every_case_of_the_group_is_tested(group: str) -> None:
    file = HERE / f"test_{group}.py"
    assert file.is_file(), f"group {group} has no {file.name}; write it, or add a row with the reason to pending.py"
    importlib.import_module(file.stem)  # its parametrisation asks for the cases
    recorded = {case.name for case in golden.index() if case.group == group}
    assert golden.handed_out(group) == recorded, f"not tested: {sorted(recorded - golden.handed_out(group))}"


@pytest.mark.parametrize("group", sorted(PENDING))
def test_pending_groups_exist(group: str) -> None:
    if reason := golden.absence():
        pytest.skip(reason) if not golden.required() else pytest.fail(reason)
    assert group in {case.group for case in golden.index()}, f"{group} is not in the index; remove it from pending.py"


def test_files_of_the_index_exist() -> None:
    if reason := golden.absence():
        pytest.skip(reason) if not golden.required() else pytest.fail(reason)
    assert [case.file.name for case in golden.index() if not case.file.is_file()] == []


def test_every_group_has_tolerances() -> None:
    assert {case.group for case in golden.index()} <= set(golden.TOLERANCES)
