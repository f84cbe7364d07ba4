"""What can be wrong with an archive of results that somebody has sent."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

from bad_case import Case, Section
from bad_workspace import Command, Workspace
from raw_cases import halve

from model.reporting.results_archive import write_archive

Damage = Callable[[Workspace], Command]
TABLE = "tables/metrics.csv"


def received(damage: Callable[[Path], object]) -> Damage:
    """An archive is put beside one's own results, after something happened to it."""

    def do(workspace: Workspace) -> Command:
        path = workspace.folder / "theirs.zip"
        write_archive(path, "1.0", {TABLE: b"dataset,value\nshapes,1.0\n", "origins.json": b'{"origins": []}'})
        damage(path)
        return ["compare_results.py", str(path), str(workspace.results), "--out", str(workspace.folder / "comparison")]

    return do


def with_member(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """A member is replaced, or added if there is none of this name."""

    def do(path: Path) -> None:
        with zipfile.ZipFile(path) as opened:
            members = {member: opened.read(member) for member in opened.namelist()}
        members[name] = change(members.get(name, b""))
        with zipfile.ZipFile(path, "w") as opened:
            for member, content in members.items():
                opened.writestr(member, content)

    return do


def newer(manifest: bytes) -> bytes:
    """The manifest that a later version would write."""
    return json.dumps({**json.loads(manifest), "format": 2}).encode()


ARCHIVES = Section(
    "Results of others",
    (
        Case(
            "A file of somebody else's results is no archive",
            received(lambda path: path.write_text("sorry")),
            "…theirs.zip is not an archive of results: `make export-results` writes one",
            "`make compare` takes results folders and archives of `make export-results`.",
            "Ask for the archive, or for the results folder.",
        ),
        Case(
            "An archive of results is cut short",
            received(halve),
            "…theirs.zip is cut short or damaged (…): ask for it again",
            "The end of a zip file lists its content, and is missing.",
            "Copy or download it again.",
        ),
        Case(
            "A table in an archive of results was edited",
            received(with_member(TABLE, lambda text: text.replace(b"1.0", b"9.0"))),
            "…theirs.zip: 'tables/metrics.csv' differs from its checksum in the manifest: it was changed or damaged; ask for it "
            "again",
            "Every archive lists the checksums of its content.",
            "Ask whoever made it for another one.",
        ),
        Case(
            "An archive of results is of a newer version",
            received(with_member("manifest.json", newer)),
            "…theirs.zip was written by a newer version of Segue (format 2, this version reads 1): update Segue",
            "Its layout is not known to your version.",
            "Update Segue, or ask for the results folder.",
        ),
        Case(
            "An archive of results names a path outside itself",
            received(with_member("../../evil.csv", lambda _: b"a")),
            "…theirs.zip: '../../evil.csv' is no path inside an archive; it was not read",
            "Segue has not written it. Archives are read in memory, and nothing of them is ever written to the disk.",
            "Do not use the file, and ask where it comes from.",
        ),
        Case(
            "An archive of results holds something else",
            received(with_member("setup.py", lambda _: b"a")),
            "…theirs.zip: 'setup.py' is neither CSV nor JSON, and archives of results hold nothing else",
            "Segue has not written it.",
            "Do not use the file, and ask where it comes from.",
        ),
        Case(
            "An archive of results has tables of another version",
            received(lambda path: None),
            "…theirs.zip/tables/metrics.csv has other columns than this version of Segue writes; run the workflow there with "
            "this version",
            "Columns of tables change between versions.",
            "Have it exported again, after the tables were made with this version.",
        ),
    ),
)
