"""The documentation site builds without a warning and needs nothing from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from checkout import PROJECT


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built pages; ``strict`` in mkdocs.yml turns a dead link, a lost anchor or a page outside the menu into an error."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_page_is_built(site: Path) -> None:
    sources = {page.relative_to(PROJECT / "docs").with_suffix("") for page in (PROJECT / "docs").rglob("*.md")}
    assert {page.relative_to(site).with_suffix("") for page in site.rglob("*.html")} == {*sources, Path("404")}


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    loads = re.compile(
        r"<(?:script|img|iframe)[^>]+src=[\"']?(?:https?:)?//|<link[^>]+href=[\"']?(?:https?:)?//[^>]+stylesheet"
    )
    assert [page.name for page in site.rglob("*.html") if loads.search(page.read_text(encoding="utf-8"))] == []


def test_docstrings_are_there_with_their_formulas(site: Path) -> None:
    losses = (site / "api/losses.html").read_text(encoding="utf-8")
    assert losses.count("<math") > 10 and ".. math::" not in losses and ":math:" not in losses


def test_every_module_of_losses_is_documented() -> None:
    page = (PROJECT / "docs/api/losses.md").read_text(encoding="utf-8")
    modules = {f"model.losses.{file.stem}" for file in (PROJECT / "model/losses").glob("[a-z]*.py")}
    assert set(re.findall(r"^::: (\S+)", page, re.MULTILINE)) == modules
