"""What an archive of results holds: tables, records of trainings and evaluations, and the origin of every number."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ConfigDict

from model.common.files import FileError
from model.common.json_files import Layout, check_layout
from model.reporting.results_archive import ORIGINS, ArchiveError, ResultsArchive
from model.workflow.plan import Plan

TABLES = ("metrics", "per_class", "costs", "orders", "significance", "summary")
"""Of those in ``tables/``; the first three have to be there."""
REQUIRED = TABLES[:3]


class OriginRow(Layout):
    """One entry of :func:`model.reporting.site.origins.origins`."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    dataset: str
    task: str
    scenario: str
    setting: str
    recipe: str
    method: str
    seed: int
    step: int
    protocol: str
    state: str
    revision: str
    device: str
    folder: str
    details: list[list[str]]


class OriginsFile(Layout):
    """``origins.json``."""

    origins: list[OriginRow]


def shared_files(
    plan: Plan, results: Path, tables: Path, origins: Sequence[Mapping[str, Any]], configuration: Mapping[str, Any]
) -> dict[str, bytes]:
    """Everything that goes into an archive: no checkpoint, no prediction and no picture.

    Args:
        plan: of the configuration.
        results: folder with the records.
        tables: folder of the tables.
        origins: of the numbers.
        configuration: as plain data.

    Returns:
        Name → content.

    Raises:
        ArchiveError: if a table or a record is missing.
    """
    found = {ORIGINS: _json({"origins": list(origins)}), "configuration.json": _json(configuration)}
    for name in TABLES:
        if (file := tables / f"{name}.csv").is_file() or name in REQUIRED:
            found[f"tables/{name}.csv"] = _read(file)
    for run in plan.runs:
        for training in run.trainings:
            for name in ("train.json", "train.csv"):
                file = results / training.directory / name
                if name.endswith(".json") or file.is_file():  # weights of elsewhere have no curves
                    found[f"{training.directory}/{name}"] = _read(file)
        for evaluations in run.evaluations.values():
            for evaluation in evaluations:
                name = f"{evaluation.directory}/evaluation.json"
                found[name] = _read(results / name)
    return found


def read_origins(archive: ResultsArchive) -> list[dict[str, Any]]:
    """The origins in an archive.

    Raises:
        ArchiveError: if they are missing, or of another layout.
    """
    content = archive.json(ORIGINS)
    try:
        check_layout(content, archive.path / ORIGINS, OriginsFile, "have it exported again")
    except FileError as error:
        raise ArchiveError(str(error)) from error
    return [dict(one) for one in content["origins"]]


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        raise ArchiveError(f"{file} does not exist yet: run snakemake with this configuration first") from None
    except OSError as error:
        raise ArchiveError(f"{file} cannot be read ({error.strerror})") from error


def _json(content: Any) -> bytes:
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False).encode()
