"""What values the arguments of transforms may have; they are checked while planning."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

Side = Annotated[int, Field(ge=1, le=16_384)]
"""Of an image, in pixels."""
Probability = Annotated[float, Field(ge=0, le=1)]


def _ascending(value: tuple[float, float]) -> tuple[float, float]:
    if not 0 < value[0] <= value[1]:
        raise ValueError("expected two positive factors, ascending")
    return value


Range = Annotated[tuple[float, float], AfterValidator(_ascending)]
"""Smallest and largest factor."""
