"""Which of several processes this one is."""

from __future__ import annotations

import pytest

from model.common.process_numbers import ProcessNumbers, ProcessNumbersError


def test_numbers_are_those_of_torchrun() -> None:
    assert ProcessNumbers.of({}) is None
    environment = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}
    assert ProcessNumbers.of(environment) == ProcessNumbers(5, 8, 1, 4)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"RANK": "one", "WORLD_SIZE": "2"}, "^RANK is 'one': expected a number"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "^RANK is 2, but WORLD_SIZE 2"),
        ({"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": ""}, "^LOCAL_RANK is ''"),
    ],
)
def test_numbers_that_fit_no_process_are_told_with_their_variable(environment: dict[str, str], message: str) -> None:
    with pytest.raises(ProcessNumbersError, match=message):
        ProcessNumbers.of(environment)
