"""Every command of the documentation works as it is written, or says visibly what it needs.

README and tutorial are run as a whole by tests of their own. Everything else is run here in a finished micro project, with two
reliefs: what would take long plans only (``--dry-run``, ``--collect-only``, ``--help``), and files that a reader is to write are
copies of the micro configuration. Targets of the Makefile that a page merely names have a test that runs them.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess

import pytest
from checkout import MICRO, PROJECT, Checkout
from documented_commands import OF_ENVIRONMENT, Documented, documented_commands

pytestmark = pytest.mark.xdist_group("micro")

COMMANDS = documented_commands()
RUN_AS_A_WHOLE = {
    "README.md": "test_readme.py",
    "docs/index.md": "test_readme.py",
    "docs/tutorial.md": "test_tutorial.py",
}
"""Page → the test that runs its blocks."""

RUN_ELSEWHERE = {
    **dict.fromkeys(
        ("demo", "keep", "site", "report", "compare", "export-results", "predict"), "workflow/test_readme.py"
    ),
    "clean-checkpoints": "workflow/test_removed_checkpoints.py",
    "docs": "bad_input/test_bad_input.py",
    "docs-site": "workflow/test_documentation_site.py",
    "lint": "workflow/test_lint.py",
    "schemas": "unit/config/test_json_schema.py",
    "test": "workflow/test_readme.py",
}
"""Targets that take long or write into the project → the test that runs them or what they call; here they are looked up."""

LOOKED_UP = ("setup", "bench", "lock", "gpu-check", "demo-full")
"""Targets that need the network, a GPU or hours: only that make knows what to do is checked."""

OWN_FILES = ("mine.yaml", "twenty.yaml")
"""Configurations that a reader is to write."""

MAKEFILE = (PROJECT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
PLACEHOLDER = "…"


def test_commands_are_found() -> None:
    texts = {command.text for command in COMMANDS}
    assert {"make demo", "make lint", ".venv/bin/tensorboard --logdir results/work"} <= texts
    assert any(command.marked for command in COMMANDS) and not all(command.marked for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: f"{command.page}: {command.text}")
def test_a_command_names_what_exists(command: Documented) -> None:
    words = command.words
    if words[0] in OF_ENVIRONMENT:
        pytest.fail(f"`{words[0]}` is not on the path of a reader: write .venv/bin/{words[0]}")
    if words[0] == "make":
        variables = [word.split("=", 1)[0] for word in words[1:] if "=" in word]
        targets = [word for word in words[1:] if "=" not in word and word != "|" and not word.startswith("-")]
        assert targets and set(targets) <= TARGETS
        assert all(f"$({name})" in MAKEFILE or f"$({name}," in MAKEFILE for name in variables)
    for word in words[1:]:
        value = word.rsplit("=", 1)[-1]
        if re.fullmatch(r"(?:config|profiles|tests|benchmarks|workflow_scripts)/[\w./-]+", value):
            assert (PROJECT / value).exists(), value


@pytest.fixture(scope="module")
def checkout(micro: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A copy with the environment of this project, and what a reader would have written."""
    copy = micro.copy(tmp_path_factory.mktemp("documented") / "segue").with_environment()
    for name in OWN_FILES:
        shutil.copy(copy.folder / MICRO, copy.folder / name)
    (copy.folder / "other").symlink_to(".", target_is_directory=True)  # and earlier results
    return copy


def smoke(command: Documented) -> list[str] | None:
    """What is run in the place of a command; None if something else runs it, or it says what it needs.

    Raises:
        AssertionError: for a command of which it is not known how it could be run.
    """
    words = command.words
    if command.marked or (command.fenced and command.page in RUN_AS_A_WHOLE) or "|" in words:  # a list of targets
        return None
    if words[0] == "make":
        (*_, target) = (word for word in words[1:] if "=" not in word)
        bare = target == "export" and len(words) == 2  # a page that names the target
        if bare or target in RUN_ELSEWHERE or target in LOOKED_UP or PLACEHOLDER in command.text:
            return ["make", "--dry-run", *words[1:]]
        return words
    options = [word for word in words[1:] if PLACEHOLDER not in word]
    if "--lint" in options:  # test_lint.py
        return None
    if command.program == "snakemake":
        alone = {"--help", "--unlock", "--dry-run", "-n"} & set(options)
        return [
            words[0],
            *options,
            *([] if alone else ["--dry-run"]),
            *([] if "--cores" in options else ["--cores", "1"]),
        ]
    if command.program == "pytest":
        return [words[0], "--collect-only", "--quiet", *options]
    if command.program == "tensorboard":
        return [words[0], "--inspect", *options]
    if command.program in ("python", "torchrun"):
        script = next(place for place, word in enumerate(options) if word.endswith(".py"))
        return [words[0], *options[: script + 1], "--help"]
    raise AssertionError(f"{command.page}: `{command.text}` is neither run by a test nor says what it needs")


SMOKES = {
    shlex.join(words): (command, words)
    for command in COMMANDS
    if command.words[0] not in OF_ENVIRONMENT and (words := smoke(command)) is not None
}


@pytest.mark.parametrize("line", SMOKES)
def test_a_command_runs(checkout: Checkout, line: str) -> None:
    command, words = SMOKES[line]
    environment = {**os.environ, "CONFIG": MICRO, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(words, cwd=checkout.folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command.page}: {command.text}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize(
    "test", sorted({*RUN_ELSEWHERE.values(), *(f"workflow/{name}" for name in RUN_AS_A_WHOLE.values())})
)
def test_the_tests_that_run_the_rest_exist(test: str) -> None:
    assert (PROJECT / "tests" / test).is_file()
