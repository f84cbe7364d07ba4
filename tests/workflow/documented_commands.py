"""Every command that the documentation tells, where it stands, and what its surroundings say that it needs."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
GENERATED = ("troubleshooting.md", "scenarios.md", "published.md")
"""Pages with messages and tables rather than instructions; those of the first come from the bad-input tests."""

PROGRAMS = (
    *(
        "make",
        "snakemake",
        "python",
        "python3",
        "pytest",
        "pip",
        "tensorboard",
        "torchrun",
        "mkdocs",
        "uv",
        "pipx",
        "git",
    ),
    *("sinfo", "squeue", "sacctmgr", "apt-get", "docker", "podman", "apptainer"),
)
OF_ENVIRONMENT = ("snakemake", "python", "pytest", "pip", "tensorboard", "torchrun", "mkdocs")
"""Installed by ``make setup`` into ``.venv/bin``, and found nowhere else."""

MARK = re.compile(r"\b[Nn]eeds? (?:[^.;:()`]*\b(?:GPU|GPUs|cluster|network|data|container runtime)\b|`uv`)")
"""What says visibly that no test runs a command: ``needs a GPU``, ``need the data`` …"""

_FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_VARIABLE = re.compile(r"^[A-Z_]+=\S*$")


@dataclass(frozen=True)
class Documented:
    """A command of a page.

    Attributes:
        page: relative to the project.
        text: as written, without a comment.
        fenced: in a block of its own, rather than in a sentence.
        marked: whether the paragraph says that it needs something that a test has not.
    """

    page: str
    text: str
    fenced: bool
    marked: bool

    @property
    def words(self) -> list[str]:
        """The command, without variables in front of it."""
        words = shlex.split(self.text, comments=True)
        while words and _VARIABLE.match(words[0]):
            words.pop(0)
        return words

    @property
    def program(self) -> str:
        """Name of the program, without its folder."""
        return Path(self.words[0]).name


def documented_commands() -> list[Documented]:
    """All commands of the README, CONTRIBUTING and the pages of docs/, in order."""
    pages = [*sorted(PROJECT.glob("*.md")), *sorted((PROJECT / "docs").glob("*.md")), PROJECT / "results/README.md"]
    found = []
    for page in pages:
        if page.name not in (*GENERATED, "CHANGELOG.md"):
            found += list(_of_page(page.relative_to(PROJECT).as_posix(), page.read_text(encoding="utf-8")))
    return found


def _of_page(page: str, text: str) -> Iterator[Documented]:
    for block in _FENCE.finditer(text):
        before, after = text[: block.start()].rstrip(), text[block.end() :].lstrip()
        around = f"{before.rsplit(chr(10) * 2, 1)[-1]} {after.split(chr(10) * 2, 1)[0]}"
        if block[1] in ("", "bash"):
            for line in re.sub(r" *\\\n *", " ", block[2]).splitlines():
                if _is_command(line.strip()):
                    yield Documented(page, line.strip(), True, bool(MARK.search(f"{around} {line}")))
    for paragraph in _FENCE.sub("", text).splitlines():
        for span in _SPAN.finditer(paragraph):
            if _is_command(span[1]) and len(span[1].split()) > 1:
                yield Documented(page, span[1], False, bool(MARK.search(paragraph)))


def _is_command(text: str) -> bool:
    try:
        words = Documented("", text, False, False).words
    except ValueError:  # a quotation mark that is an apostrophe
        return False
    return bool(words) and (Path(words[0]).name in PROGRAMS or words[0].startswith(".venv/bin/"))
