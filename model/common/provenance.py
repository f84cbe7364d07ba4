"""What a result was made from, recorded beside it: this decides whether it is current, wherever it is copied or moved.

A record holds the job's ``spec``, the fingerprint of every module that it ran through, the content of each input, and the
content of each output. Trainings and evaluations have it in ``train.json`` and ``evaluation.json``; other jobs in a file
``….made_by.json`` beside their output. Results that were accepted under other code or another configuration keep the record of
what made them; what they were accepted under is recorded beside it (``kept``).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model.common.files import FileError, read_json
from model.common.fingerprints import canonical_json, combined_fingerprint
from model.common.json_files import without_checksum, write_checked

NO_FILE = "none"
"""Stands for the content of an input that a job can have and does not."""


@dataclass(frozen=True)
class Input:
    """A file that a job read.

    Attributes:
        file: its path relative to the folder of the record, so that a results folder can be moved.
        sha256: of its content.
    """

    file: str
    sha256: str


@dataclass(frozen=True)
class Basis:
    """What decides a result.

    Attributes:
        spec: plain data, exactly what the job depends on besides code and inputs.
        code: module → fingerprint of its syntax tree.
        inputs: name, such as ``previous checkpoint`` → file. Only those that the job has.
    """

    spec: Any
    code: Mapping[str, str]
    inputs: Mapping[str, Input] = field(default_factory=dict)

    @property
    def parts(self) -> dict[str, str]:
        """Name of each part → hash of its content: equal parts give equal results."""
        spec = hashlib.sha256(canonical_json(self.spec).encode()).hexdigest()
        contents = {name: entry.sha256 for name, entry in self.inputs.items()}
        return {"specification": spec, "code": combined_fingerprint(self.code), **contents}

    @property
    def key(self) -> str:
        """One hash of all parts."""
        return parts_key(self.parts)

    def document(self) -> dict[str, Any]:
        """As it is written to a record."""
        return {
            "spec": self.spec,
            "code": combined_fingerprint(self.code),
            "modules": dict(self.code),
            "inputs": {name: {"file": entry.file, "sha256": entry.sha256} for name, entry in self.inputs.items()},
        }

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Basis:
        """What :meth:`document` wrote.

        Raises:
            KeyError, TypeError, AttributeError: if it is something else.
        """
        inputs = {name: Input(str(e["file"]), str(e["sha256"])) for name, e in document["inputs"].items()}
        return cls(document["spec"], dict(document["modules"]), inputs)


@dataclass(frozen=True)
class Kept:
    """A decision to accept a result under other code or another configuration than it was made with.

    Attributes:
        to: what it counts as made from since then.
        date: of the decision, ISO format.
        reason: given by whoever decided.
        differences: in words, what is accepted.
    """

    to: Basis
    date: str
    reason: str
    differences: tuple[str, ...]


@dataclass(frozen=True)
class Provenance:
    """A record.

    Attributes:
        made_from: what made the result; never changes.
        outputs: file name, beside the record → SHA-256.
        kept: decisions to accept it, in order.
        seconds: time that making it took; None if not measured.
        device: what it was made on; None where that does not matter.
    """

    made_from: Basis
    outputs: Mapping[str, str]
    kept: tuple[Kept, ...] = ()
    seconds: float | None = None
    device: str | None = None

    @property
    def counts_as(self) -> Basis:
        """What is compared with the plan: the last acceptance, or what made it."""
        return self.kept[-1].to if self.kept else self.made_from

    def document(self) -> dict[str, Any]:
        """Keys and values for a record; ``seconds`` and ``device`` are left to records that have them anyway."""
        content = {**self.made_from.document(), "outputs": dict(self.outputs)}
        if self.kept:
            fingerprint = combined_fingerprint(self.made_from.code)
            content["kept"] = [
                {
                    "from": {"code": fingerprint, "differences": list(decision.differences)},
                    "to": decision.to.document(),
                    "date": decision.date,
                    "reason": decision.reason,
                }
                for decision in self.kept
            ]
        return content


def parts_key(parts: Mapping[str, str]) -> str:
    """One hash of named hashes."""
    return hashlib.sha256("\n".join(f"{name} {parts[name]}" for name in sorted(parts)).encode()).hexdigest()


def checksum(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def basis(spec: Any, code: Mapping[str, str], inputs: Mapping[str, Path | None], record: Path) -> Basis:
    """What a job that is about to run will be made from.

    Args:
        spec: as in :class:`Basis`.
        code: as in :class:`Basis`.
        inputs: name → file, None for one that the job does not have.
        record: where the record will be written.

    Raises:
        OSError: if an input cannot be read.
    """
    present = {name: file for name, file in inputs.items() if file is not None}
    found = {name: Input(relative(file, record.parent), checksum(file)) for name, file in present.items()}
    return Basis(spec, code, found)


def relative(file: Path, folder: Path) -> str:
    """A file's path relative to a folder, links not followed."""
    return file.name if file.parent == folder else Path(os.path.relpath(file, folder)).as_posix()


def contents(outputs: Iterable[Path], record: Path) -> dict[str, str]:
    """Name relative to the record's folder → SHA-256 of finished outputs.

    Raises:
        OSError: if one cannot be read.
    """
    return {relative(file, record.parent): checksum(file) for file in outputs}


def record_beside(output: Path) -> Path:
    """Record of a job whose output is not a record itself: ``step1.json`` → ``step1.made_by.json``."""
    return output.with_suffix(".made_by.json")


def write_record(record: Path, made_from: Basis, outputs: Iterable[Path]) -> None:
    """Write the record of finished outputs beside them; for jobs that record nothing else.

    Raises:
        NotWrittenError: if it cannot be written.
        OSError: if an output cannot be read.
    """
    write_checked(record, Provenance(made_from, contents(outputs, record)).document())


def read_provenance(record: Path) -> Provenance | None:
    """The provenance in a record; None if it is missing, damaged, or from before provenance was recorded.

    ``evaluation.json`` holds it under ``made_by``.
    """
    try:
        document = without_checksum(read_json(record), record)
        section = document.get("made_by", document)
        kept = tuple(
            Kept(Basis.parse(e["to"]), e["date"], e["reason"], tuple(e["from"]["differences"]))
            for e in section.get("kept", ())
        )
        outputs = {str(name): str(value) for name, value in section["outputs"].items()}
        seconds, device = section.get("seconds"), section.get("machine", {}).get("device")
        return Provenance(Basis.parse(section), outputs, kept, seconds, device)
    except (FileError, KeyError, TypeError, AttributeError, ValueError):
        return None


def write_kept(record: Path, provenance: Provenance) -> None:
    """Replace the provenance in a record and leave everything else in it unchanged.

    Raises:
        FileError: if the record cannot be read or written.
    """
    document = without_checksum(read_json(record), record)
    section = document.get("made_by", document)
    section.update(provenance.document())
    write_checked(record, document)
