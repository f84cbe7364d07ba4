"""Every command of the README runs.

The commands are executed as they stand, in a fresh copy of the project, with ``CONFIG`` set to the micro configuration (it is
what ``make`` takes where a command names none). ``make test`` is this suite: of it, only that make knows what to do is checked.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from checkout import MICRO, PROJECT, Checkout

from model.methods.registry import METHODS

pytestmark = pytest.mark.xdist_group("micro")

README = (PROJECT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line.split("#")[0].strip()
    for block in re.findall(r"^```bash\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
    if line.split("#")[0].strip()
]
ARCHIVE = "mine.zip"
MAKES_ARCHIVE = f"make export-results OUT={ARCHIVE}"


def test_the_readme_has_commands():
    assert {"make demo", "make test", MAKES_ARCHIVE} <= set(COMMANDS)


def test_the_readme_names_every_method():
    named = set(re.findall(r"`([a-z-]+)`", README))
    variants = {
        "finetuning-observed",
        "simcis-finetuning",
        "simcis-joint",
    }  # bounds of one paper's network or comparison
    methods = {name for rows in METHODS.values() for name, target in rows.items() if target.startswith("model.")}
    assert methods - variants <= named


@pytest.fixture(scope="module")
def checkout(micro: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A copy with the environment of this project, so that nothing is installed again."""
    return micro.copy(tmp_path_factory.mktemp("readme") / "segue").with_environment()


@pytest.mark.parametrize("command", dict.fromkeys(COMMANDS))
def test_a_command_of_the_readme_runs(checkout: Checkout, command: str):
    if command == "make test":
        command = "make --dry-run test"
    environment = {**os.environ, "CONFIG": MICRO, "SEGUE_DATA": os.environ.get("SEGUE_DATA", "/nowhere")}
    if "trials" in command and not Path(environment["SEGUE_DATA"]).is_dir():
        pytest.skip("SEGUE_DATA is not set: no photographs to plan with")
    before = [MAKES_ARCHIVE] if ARCHIVE in command and command != MAKES_ARCHIVE else []
    for line in [*before, command]:
        done = subprocess.run(
            ["bash", "-c", line], cwd=checkout.folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_file_that_the_documentation_links_to_exists():
    for page in [*PROJECT.glob("*.md"), *(PROJECT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"
