"""Whether a value agrees with the published one: the band depends on how the value came about."""

from __future__ import annotations

from dataclasses import replace

import pytest

from model.reporting.published import PublishedValue
from model.reporting.verdicts import Origin, verdict

NUMBER = PublishedValue(50.0, "V", "a paper", "mib")
ORIGIN = Origin(released=False, scenario="15-5", steps=2, seeds=1, protocol="mib")


@pytest.mark.parametrize(
    ("changes", "mean", "words"),
    [
        ({}, 51.5, "within ±1.5"),
        ({}, 48.4, "outside ±1.5"),
        ({"scenario": "19-1"}, 51.6, "outside ±1.5"),  # two steps, though the second has one class
        ({"released": True, "steps": 6, "scenario": "15-1"}, 51.0, "within ±1"),
        ({"released": True}, 51.4, "outside ±1"),
        ({"steps": 6, "scenario": "15-1", "seeds": 3}, 47.1, "within ±3"),
        ({"steps": 6, "scenario": "15-1b", "seeds": 3}, 46.9, "outside ±3"),
        ({"steps": 6, "scenario": "15-1", "seeds": 2}, 50.0, "needs 3 seeds"),
        ({"steps": 6, "scenario": "100-10", "seeds": 3}, 50.0, "no band for 6 steps"),
        ({"protocol": "segue"}, 50.0, "other protocol (mib)"),
    ],
)
def test_the_band_is_that_of_the_origin(changes: dict[str, object], mean: float, words: str) -> None:
    difference, found = verdict(mean, NUMBER, replace(ORIGIN, **changes))  # type: ignore[arg-type]
    assert found == words and difference == pytest.approx(mean - 50)


def test_without_a_published_number_only_released_weights_say_so() -> None:
    assert verdict(50, None, ORIGIN)[1] == ""
    assert verdict(50, None, replace(ORIGIN, released=True))[1] == "no published number"
