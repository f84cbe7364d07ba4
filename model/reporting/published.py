"""Numbers published in papers, shown beside our own where they describe the same experiment."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

COLUMNS = (
    "paper",
    "dataset",
    "task",
    "scenario",
    "setting",
    "method",
    "protocol",
    "group",
    "metric",
    "value",
    "provenance",
    "source",
)

PROVENANCE = {
    "V": "read from an official table, README or chart",
    "C": "the overall value is official; the values of the groups are commonly quoted and agree with it",
    "B": "quoted publicly: in a later paper, an issue thread, a reproduction",
    "Q": "commonly quoted or recalled; only the arithmetic was checked",
    "D": "derived by calculation from official values",
}
"""Meaning of the provenance letters."""


class PublishedError(ValueError):
    """A table of published results that cannot be used."""


@dataclass(frozen=True)
class PublishedValue:
    """One published number.

    Attributes:
        value: in percent.
        provenance: a letter of :data:`PROVENANCE`.
        paper: where it was published.
        protocol: name of the protocol it was evaluated under.
        text: the number with its digits as printed.
    """

    value: float
    provenance: str
    paper: str
    protocol: str
    text: str = ""


@dataclass(frozen=True)
class PublishedTable:
    """Numbers of one paper that were evaluated alike, in the order of the file.

    Attributes:
        paper, dataset, task, setting, protocol: what all numbers share.
        values: (scenario, method, group, metric) → number.
        sources: where the numbers were read.
    """

    paper: str
    dataset: str
    task: str
    setting: str
    protocol: str
    values: Mapping[tuple[str, str, str, str], PublishedValue]
    sources: tuple[str, ...]

    @property
    def scenarios(self) -> tuple[str, ...]:
        """Names of the scenarios."""
        return tuple(dict.fromkeys(scenario for scenario, *_ in self.values))

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the methods."""
        return tuple(dict.fromkeys(method for _, method, *_ in self.values))


class PublishedResults:
    """The table ``config/published_results.csv``. Among several papers the first in the file is preferred."""

    def __init__(self, rows: Iterable[Mapping[str, str]]) -> None:
        self._values: dict[tuple[str, ...], dict[tuple[str, str], dict[str, PublishedValue]]] = {}
        numbers: dict[tuple[str, ...], dict[tuple[str, str, str, str], PublishedValue]] = {}
        sources: dict[tuple[str, ...], dict[str, None]] = {}
        for row in rows:
            key = tuple(row[name] for name in ("dataset", "task", "scenario", "setting", "method", "metric"))
            papers = self._values.setdefault(key, {})
            value = PublishedValue(float(row["value"]), row["provenance"], row["paper"], row["protocol"], row["value"])
            papers.setdefault((row["paper"], row["protocol"]), {})[row["group"]] = value
            table = tuple(row[name] for name in ("paper", "dataset", "task", "setting", "protocol"))
            place = (row["scenario"], row["method"], row["group"], row["metric"])
            numbers.setdefault(table, {})[place] = value
            sources.setdefault(table, {})[row["source"]] = None
        self.papers: tuple[PublishedTable, ...] = tuple(
            PublishedTable(
                paper=table[0],
                dataset=table[1],
                task=table[2],
                setting=table[3],
                protocol=table[4],
                values=found,
                sources=tuple(source for source in sources[table] if source),
            )
            for table, found in numbers.items()
        )
        """All numbers, by paper and by what they share."""

    def find(
        self, dataset: str, task: str, scenario: str, setting: str, method: str, metric: str, protocol: str
    ) -> Mapping[str, PublishedValue]:
        """Group → number, all from one paper, for exactly this dataset, task, scenario, setting and method.

        A paper that uses ``protocol`` is preferred, then the order of the file. Empty if there is no such number.
        """
        papers = self._values.get((dataset, task, scenario, setting, method, metric), {})
        ranked = sorted(papers, key=lambda paper: paper[1] != protocol)  # stable: ties keep the order of the file
        return papers[ranked[0]] if ranked else {}

    def tables(self, dataset: str, task: str, scenario: str, setting: str, metric: str) -> dict[str, dict[str, float]]:
        """Method → value of all classes, by paper and protocol: numbers that were published side by side."""
        wanted = (dataset, task, scenario, setting)
        found: dict[str, dict[str, float]] = {}
        for (*place, method, measured), papers in self._values.items():
            if tuple(place) == wanted and measured == metric:
                for (paper, protocol), groups in papers.items():
                    if "all" in groups:
                        found.setdefault(f"{paper} ({protocol})", {})[method] = groups["all"].value
        return found

    @classmethod
    def empty(cls) -> PublishedResults:
        """No published numbers at all."""
        return cls(())


def read_published(path: Path) -> PublishedResults:
    """Read and check the table of published results.

    Raises:
        PublishedError: for other columns, an unknown provenance letter, a value outside 0…100 or a repeated row.
    """
    with path.open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise PublishedError(f"{path} needs exactly the columns {','.join(COLUMNS)}")
        rows = list(reader)
    identity = [name for name in COLUMNS if name not in ("value", "provenance", "source")]
    found: set[tuple[str, ...]] = set()
    for line, row in enumerate(rows, start=2):
        if row["provenance"] not in PROVENANCE:
            known = ", ".join(PROVENANCE)
            raise PublishedError(f"{path}, line {line}: provenance '{row['provenance']}' is not one of {known}")
        if not _is_percentage(row["value"]):
            raise PublishedError(f"{path}, line {line}: '{row['value']}' is not a percentage")
        key = tuple(row[name] for name in identity)
        if key in found:
            raise PublishedError(f"{path}, line {line}: this number is given twice")
        found.add(key)
    return PublishedResults(rows)


def _is_percentage(text: str) -> bool:
    try:
        return 0 <= float(text) <= 100
    except ValueError:
        return False
