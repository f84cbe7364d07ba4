"""Neither recipe for a container can be built in a test; what they copy and start from can be looked up."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.specifiers import SpecifierSet

PROJECT = Path(__file__).resolve().parents[3]
CONTAINERFILE = (PROJECT / "envs/Containerfile").read_text(encoding="utf-8")
DEFINITION = (PROJECT / "envs/segue.def").read_text(encoding="utf-8")
NOT_NEEDED = {
    *("benchmarks", "tests", "docs", "results", "mkdocs.yml"),
    *("CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md"),
}
"""At the top level, and read neither by the workflow nor by ``make setup``; of docs/ the pictures are predicted by the README."""


def copied_by_containerfile() -> set[str]:
    lines = re.findall(r"^COPY (.+) (\S+)$", CONTAINERFILE, re.MULTILINE)
    for sources, target in lines:
        assert target == "./" or target == f"./{sources}"
    return {name for sources, _ in lines for name in sources.split()}


def copied_by_definition() -> set[str]:
    section = DEFINITION.split("%files\n")[1].split("\n\n")[0]
    pairs = [line.split() for line in section.splitlines()]
    assert all(target == f"/segue/{source}" for source, target in pairs)
    return {source for source, _ in pairs}


def test_both_copy_the_same_files_and_these_exist() -> None:
    assert copied_by_containerfile() == copied_by_definition()
    assert all((PROJECT / name).exists() for name in copied_by_definition())


def test_nothing_that_the_workflow_reads_is_left_out() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout: which files belong to the project is not known")
    top = {name.split("/")[0] for name in listed.stdout.splitlines() if not name.startswith(".")}
    assert top - {name.split("/")[0] for name in copied_by_definition()} == NOT_NEEDED - {"docs"}


@pytest.mark.parametrize("text", [CONTAINERFILE, DEFINITION], ids=["Containerfile", "segue.def"])
def test_the_environment_is_that_of_make_setup_on_a_python_that_is_supported(text: str) -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (version,) = re.findall(r"python:([\d.]+)-slim", text)
    assert version in SpecifierSet(project["requires-python"])
    assert "make setup" in text and "pip install" not in text  # so versions are those of the lock


def test_the_catalogue_reads_what_is_true() -> None:
    usage = yaml.safe_load((PROJECT / ".snakemake-workflow-catalog.yml").read_text(encoding="utf-8"))["usage"]
    assert usage["report"] is True and usage["software-stack-deployment"]["none"] is True
    assert (PROJECT / usage["mandatory-flags"]["flags"].split()[-1]).is_file()
    assert (PROJECT / "config/README.md").is_file()
