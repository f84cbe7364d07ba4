"""Bad input is one clear line with a remedy, costs nothing that was computed before, and never shows a traceback.

The cases are data (``catalogue.py``); docs/troubleshooting.md is made of the same ones.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from bad_case import Case
from bad_workspace import PROJECT, Workspace, build
from catalogue import CASES, page

pytestmark = pytest.mark.xdist_group("bad-input")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A small finished run; cases damage a copy."""
    return build(tmp_path_factory.mktemp("bad-input") / "workspace")


@pytest.fixture
def workspace(finished: Workspace, tmp_path: Path) -> Iterator[Workspace]:
    folder = tmp_path / "workspace"
    yield finished.copy(folder)
    mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for place in (place for place in mounted if place.startswith(f"{folder}/")):
        subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.identifier)
def test_bad_input_is_one_clear_line(workspace: Workspace, case: Case) -> None:
    command = case.damage(workspace)
    before = workspace.computed()
    done = workspace.run(command)

    assert done.status != 0, done.said
    assert "Traceback" not in done.said, done.said
    if command[0] == "snakemake":
        assert any(case.matches(line) for line in done.said.splitlines()), done.said
    else:
        errors = [line for line in done.said.splitlines() if line.startswith("error: ")]
        assert errors == done.said.splitlines()[-1:], done.said
        assert case.matches(errors[0]), errors[0]

    after = workspace.computed()
    lost = {name for name, content in before.items() if after.get(name) != content}
    assert not lost, f"damaged or deleted: {sorted(lost)}"
    assert not list(workspace.folder.rglob("*.part")), "a file that was not finished is left"
    assert not list(workspace.folder.rglob("marker")) and not (PROJECT / "marker").exists(), "code of a file was run"


def test_snakemake_opens_a_configuration_before_anything_of_ours_can_put_it_better(tmp_path: Path) -> None:
    """What docs/troubleshooting.md says about it; the Snakefile is not even needed."""
    command = [sys.executable, "-m", "snakemake", "--configfile", "none.yaml", "--snakefile", "none.smk"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    last = (done.stdout + done.stderr).rstrip().splitlines()[-1]
    assert done.returncode != 0 and last.startswith("FileNotFoundError: ") and "none.yaml" in last


def test_names_are_unique_and_every_case_tells_meaning_and_remedy() -> None:
    assert len(CASES) >= 30
    assert len({case.identifier for case in CASES}) == len(CASES)
    for case in CASES:
        assert case.means.endswith(".") and case.do.endswith("."), case.name
        assert len(case.sees.replace("…", "").strip()) > 10, f"'{case.name}' would match almost anything"


def test_the_troubleshooting_page_is_made_of_the_cases() -> None:
    written = (PROJECT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    assert written == page(), "run `make docs`"
