"""One way in which input can be wrong: how it is damaged, what is run, what the user reads, what it means and what to do.

``sees`` is both what the test expects (… stands for any text) and what docs/troubleshooting.md shows.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from bad_workspace import Command, Workspace


@dataclass(frozen=True)
class Case:
    """A case of the bad-input test, and an entry of the troubleshooting page.

    Attributes:
        name: short and unique, in words.
        damage: breaks something in a workspace and returns the command that runs into it.
        sees: the line that the user reads, without ``prefix``.
        means: what has happened, in a sentence.
        do: the remedy, in a sentence.
        prefix: what the line starts with; Snakemake's own lines start differently from those of our commands.
    """

    name: str
    damage: Callable[[Workspace], Command]
    sees: str
    means: str
    do: str
    prefix: str = "error: "

    @property
    def identifier(self) -> str:
        """For the test's name."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")

    def matches(self, line: str) -> bool:
        """Whether a line of output is the one that the case promises."""
        return re.fullmatch(".+".join(map(re.escape, f"{self.prefix}{self.sees}".split("…"))), line.strip()) is not None


@dataclass(frozen=True)
class Section:
    """Cases of one topic."""

    title: str
    cases: tuple[Case, ...]
