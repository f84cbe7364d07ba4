"""Tables of several results as one: colleagues' runs side by side, as folders or as archives of `make export-results`."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from model.reporting.costs import COST_COLUMNS
from model.reporting.results_archive import read_archive
from model.reporting.shared_results import read_origins
from model.reporting.tables import CLASS_COLUMNS, METRIC_COLUMNS, read_csv

_SHARED = ("dataset", "task", "scenario", "setting", "recipe", "method")
_TABLES = {"metrics.csv": METRIC_COLUMNS, "per_class.csv": CLASS_COLUMNS, "costs.csv": COST_COLUMNS}


class JoinError(ValueError):
    """Results that cannot be put side by side; the message names the folder or the archive and the remedy."""


@dataclass(frozen=True)
class Joined:
    """Tables of several results.

    Attributes:
        metrics, per_class, costs: all rows; a method that several results have is called ``method (folder)``.
        names: such a name → the method's own.
        origins: where the numbers of archives come from (:func:`model.reporting.site.origins.origins`).
    """

    metrics: pd.DataFrame
    per_class: pd.DataFrame
    costs: pd.DataFrame
    names: Mapping[str, str]
    origins: Sequence[Mapping[str, Any]] = ()


def join(places: Sequence[Path]) -> Joined:
    """Read and join the tables of results.

    Args:
        places: results folders, folders with their ``tables/`` in them, or archives.

    Raises:
        JoinError: for fewer than two places, the same one twice, or one without tables of this version.
        ArchiveError: for an archive that is damaged or not to be trusted.
    """
    if len(places) < 2:
        raise JoinError('give at least two results, such as RUNS="results other/results colleague.zip"')
    if len({place.resolve() for place in places}) < len(places):
        raise JoinError(f"the same results are named twice: {', '.join(map(str, places))}; name each once")
    titles = folder_titles(places)
    read: dict[str, dict[str, pd.DataFrame]] = {}
    told: dict[str, list[dict[str, Any]]] = {}
    for title, place in zip(titles, places, strict=True):
        if place.is_file():
            archive = read_archive(place)
            read[title] = {
                name: _table(archive.files.get(f"tables/{name}"), place / "tables" / name) for name in _TABLES
            }
            told[title] = read_origins(archive)
        else:
            read[title] = {name: _table(_content(place, name), place / "tables" / name) for name in _TABLES}
    owners: dict[tuple[str, ...], set[str]] = {}
    for title, tables in read.items():
        for key in tables["metrics.csv"][list(_SHARED)].drop_duplicates().itertuples(index=False):
            owners.setdefault(tuple(map(str, key)), set()).add(title)
    several = {key[-1] for key, found in owners.items() if len(found) > 1}
    joined: dict[str, list[pd.DataFrame]] = {name: [] for name in _TABLES}
    names: dict[str, str] = {}
    origins: list[dict[str, Any]] = []
    for title, tables in read.items():
        label = {method: f"{method} ({title})" for method in several}
        names |= {new: method for method, new in label.items()}
        for name, table in tables.items():
            joined[name].append(table.assign(method=[label.get(method, method) for method in table["method"]]))
        origins += [{**one, "method": label.get(one["method"], one["method"])} for one in told.get(title, ())]
    metrics, per_class, costs = (pd.concat(joined[name], ignore_index=True) for name in _TABLES)
    return Joined(metrics, per_class, costs, names, origins)


def folder_titles(places: Sequence[Path]) -> list[str]:
    """Short names that tell results apart: the last part of the path that is not ``results``, more parts if need be."""
    plain = [place.resolve() for place in places]
    plain = [place.with_suffix("") if place.suffix == ".zip" and place.is_file() else place for place in plain]
    parts = [[part for part in place.parts[1:] if part != "results"] or ["results"] for place in plain]
    for depth in range(1, max(map(len, parts)) + 1):
        found = ["/".join(own[-depth:]) for own in parts]
        if len(set(found)) == len(found):
            return found
    return [str(place) for place in places]


def _content(folder: Path, name: str) -> bytes | None:
    path = folder / "tables" / name
    if not path.is_file():
        raise JoinError(
            f"{path} does not exist: '{folder}' is no results folder of a finished run; run the workflow there"
        )
    try:
        return path.read_bytes()
    except OSError as error:
        raise JoinError(f"{path} cannot be read ({error.strerror})") from error


def _table(content: bytes | None, path: Path) -> pd.DataFrame:
    if content is None:
        raise JoinError(f"{path.parents[1]} holds no {path.name}: it is not complete; have it exported again")
    try:
        table = read_csv(io.BytesIO(content))
    except (ValueError, OSError) as error:
        raise JoinError(f"{path} cannot be read as a table ({error}); have it made again there") from error
    if list(table.columns) != list(_TABLES[path.name]):
        raise JoinError(
            f"{path} has other columns than this version of Segue writes; run the workflow there with this version"
        )
    return table
