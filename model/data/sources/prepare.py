"""From raw data to the prepared form: what has to be there before, and what the record says of it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.data.prepared.manifest import BY_CONTENT
from model.data.prepared.preparation import begin
from model.data.prepared.raw_files import observe_inputs
from model.data.sources import registry


def prepare(
    kind: str,
    options: Mapping[str, Any],
    folder: Path,
    *,
    name: str,
    workers: int = 1,
    code: str = "",
    spec: Mapping[str, Any] | None = None,
    token: str = "",
) -> None:
    """Bring raw data into the prepared form.

    An interrupted preparation resumes where it stopped; what other code has prepared is done again.

    Args:
        kind: of the raw data, a name of the registry.
        options: of the kind.
        folder: where the prepared form goes; made if needed.
        name: of the dataset, as configured.
        workers: processes that read and write images.
        code: fingerprint of the code that prepares.
        spec: what the preparation depends on, as it goes into its record.
        token: what :func:`model.data.sources.registry.state_of` says of the raw data.

    Raises:
        SourceError: if raw data are missing or incomplete.
        ForeignFolderError: if raw data are read from ``folder``, or it holds files that Segue did not make.
    """
    raw = registry.source(kind, options)
    registry.refuse_overlaps(kind, options, name, folder)
    if problems := registry.missing(kind, options):
        raise registry.SourceError(f"dataset '{name}' cannot be prepared: {'; '.join(problems)}")
    short, is_error = registry.incomplete(kind, options)
    if short and is_error:
        markers = [str(marker) for marker in registry.archive_markers(kind, options)]
        again = (
            f"delete {', '.join(markers)} to have its archives unpacked again"
            if markers
            else "unpack its archives again"
        )
        raise registry.SourceError(
            f"dataset '{name}' is not complete: {'; '.join(short)}. {again[0].upper()}{again[1:]}; if a part is meant, leave "
            "out its options 'complete' and 'download'"
        )
    for sentence in short:
        print(
            f"warning: dataset '{name}': {sentence}; results on a part compare with nothing published", file=sys.stderr
        )
    # Before anything is read: what changes from now on will be noticed.
    notes = {"code": code, "spec": dict(spec or {}), "token": token, "verify": token.startswith(BY_CONTENT)}
    begin(folder, **notes, inputs=observe_inputs(raw.inputs()))
    raw.prepare(folder, name, workers)
