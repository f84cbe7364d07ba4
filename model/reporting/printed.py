"""Tables as they are printed, whatever the format: rows of cells under two lines of column heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

MISSING = "–"
Rank = Literal[0, 1, 2]
"""1 for the best value of a column, 2 for the second best, 0 for all others."""


@dataclass(frozen=True)
class Cell:
    """What stands in one place.

    Attributes:
        text: printed as it is; not escaped yet.
        rank: among the values of the column.
    """

    text: str = MISSING
    rank: Rank = 0


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        label: its first cell.
        cells: one per column.
        minor: whether the row belongs to the one above it.
    """

    label: str
    cells: tuple[Cell, ...]
    minor: bool = False


@dataclass(frozen=True)
class Table:
    """A table with its title and remarks.

    Attributes:
        title: above it.
        first: head of the column of labels.
        head: of the other columns: what spans several of them (empty where nothing does), and the column's own.
        rows: each with a cell per column.
        note: a remark under the title.
        footnotes: remarks under the table.
        minor: whether the table belongs to the one before it.
    """

    title: str
    first: str
    head: tuple[tuple[str, str], ...]
    rows: tuple[Row, ...]
    note: str = ""
    footnotes: tuple[str, ...] = field(default=())
    minor: bool = False

    @property
    def spans(self) -> tuple[tuple[str, int], ...]:
        """Texts that span columns, each with its number of columns; empty if there is none."""
        found: list[tuple[str, int]] = []
        for span, _ in self.head:
            if found and found[-1][0] == span:
                found[-1] = (span, found[-1][1] + 1)
            else:
                found.append((span, 1))
        return tuple(found) if any(span for span, _ in found) else ()


def ranks(values: Sequence[float | None], decimals: int = 2) -> list[Rank]:
    """Rank of each value among those of a column, the highest first; equal as printed means equal in rank.

    A lone value is not the best of anything, and of two the other is not second best.

    Args:
        values: None where there is none, or where it does not compete.
        decimals: as printed.
    """
    rounded = [None if value is None else round(value, decimals) for value in values]
    present = [value for value in rounded if value is not None]
    distinct = sorted(set(present), reverse=True)
    best = distinct[0] if len(present) > 1 else None
    second = distinct[1] if len(present) > 2 and len(distinct) > 1 else None
    return [0 if value is None else 1 if value == best else 2 if value == second else 0 for value in rounded]


def natural(name: str) -> tuple[object, ...]:
    """Scenario names in the order of their numbers: larger base first, then larger increments."""
    numbers = [int(part) for part in "".join(c if c.isdigit() else " " for c in name).split()]
    return (not numbers, *(-n for n in numbers[:2]), name) if numbers else (True, 0, 0, name)
