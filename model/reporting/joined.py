"""Tables of several results folders as one: colleagues' runs side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from model.reporting.costs import COST_COLUMNS
from model.reporting.tables import CLASS_COLUMNS, METRIC_COLUMNS, read_csv

_SHARED = ("dataset", "task", "scenario", "setting", "recipe", "method")
_TABLES = {"metrics.csv": METRIC_COLUMNS, "per_class.csv": CLASS_COLUMNS, "costs.csv": COST_COLUMNS}


class JoinError(ValueError):
    """Results folders that cannot be put side by side; the message names the folder and the remedy."""


@dataclass(frozen=True)
class Joined:
    """Tables of several results folders.

    Attributes:
        metrics, per_class, costs: all rows; a method that several folders have is called ``method (folder)``.
        names: such a name → the method's own.
    """

    metrics: pd.DataFrame
    per_class: pd.DataFrame
    costs: pd.DataFrame
    names: Mapping[str, str]


def join(folders: Sequence[Path]) -> Joined:
    """Read and join the tables of results folders.

    Args:
        folders: results folders, or folders with their ``tables/`` in them.

    Raises:
        JoinError: for fewer than two folders, the same one twice, or one without tables of this version.
    """
    if len(folders) < 2:
        raise JoinError('give at least two results folders, such as RUNS="results other/results"')
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise JoinError(f"a folder is named twice: {', '.join(map(str, folders))}; name each once")
    titles = folder_titles(folders)
    read = {
        title: {name: _read(folder, name) for name in _TABLES} for title, folder in zip(titles, folders, strict=True)
    }
    owners: dict[tuple[str, ...], set[str]] = {}
    for title, tables in read.items():
        for key in tables["metrics.csv"][list(_SHARED)].drop_duplicates().itertuples(index=False):
            owners.setdefault(tuple(map(str, key)), set()).add(title)
    several = {key[-1] for key, found in owners.items() if len(found) > 1}
    joined: dict[str, list[pd.DataFrame]] = {name: [] for name in _TABLES}
    names: dict[str, str] = {}
    for title, tables in read.items():
        label = {method: f"{method} ({title})" for method in several}
        names |= {new: method for method, new in label.items()}
        for name, table in tables.items():
            joined[name].append(table.assign(method=[label.get(method, method) for method in table["method"]]))
    metrics, per_class, costs = (pd.concat(joined[name], ignore_index=True) for name in _TABLES)
    return Joined(metrics, per_class, costs, names)


def folder_titles(folders: Sequence[Path]) -> list[str]:
    """Short names that tell folders apart: the last part of the path that is not ``results``, more parts if need be."""
    parts = [[part for part in folder.resolve().parts[1:] if part != "results"] or ["results"] for folder in folders]
    for depth in range(1, max(map(len, parts)) + 1):
        found = ["/".join(own[-depth:]) for own in parts]
        if len(set(found)) == len(found):
            return found
    return [str(folder) for folder in folders]


def _read(folder: Path, name: str) -> pd.DataFrame:
    path = folder / "tables" / name
    if not path.is_file():
        raise JoinError(
            f"{path} does not exist: '{folder}' is no results folder of a finished run; run the workflow there"
        )
    try:
        table = read_csv(path)
    except (ValueError, OSError) as error:
        raise JoinError(f"{path} cannot be read as a table ({error}); have it made again there") from error
    if list(table.columns) != list(_TABLES[name]):
        raise JoinError(
            f"{path} has other columns than this version of Segue writes; run the workflow there with this version"
        )
    return table
