"""A copy of the project to run the workflow in, and a way to ask what would run next."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import cache_from_source
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
MICRO = "config/micro.yaml"


@dataclass(frozen=True)
class Job:
    """One line of a dry run: the rule and its first output below the results folder."""

    rule: str
    output: str


@dataclass(frozen=True)
class Checkout:
    """A copy of the project's files, with results of its own."""

    folder: Path

    def snakemake(self, *arguments: str, config: str = MICRO) -> subprocess.CompletedProcess[str]:
        """Run the workflow; the caller looks at the return code."""
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
        }  # equal runs are equal on a CPU
        environment.pop("PYTHONPATH", None)
        command = [sys.executable, "-m", "snakemake", "--cores", "2", "--configfile", config, *arguments]
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)

    def planned(self, *arguments: str, config: str = MICRO) -> set[Job]:
        """Jobs that would run now."""
        done = self.snakemake("--dry-run", *arguments, config=config)
        assert done.returncode == 0, done.stderr + done.stdout
        jobs = set()
        for rule, body in re.findall(r"^(?:local)?rule (\w+):\n((?:    .*\n)*)", done.stdout, re.MULTILINE):
            output = re.search(r"^    output: ([^,\n]+)", body, re.MULTILINE)
            jobs.add(Job(rule, output[1].strip().removeprefix("results/") if output else ""))
        assert jobs or "Nothing to be done" in done.stdout, done.stdout
        return {job for job in jobs if job.rule != "all"}

    def copy(self, target: Path) -> Checkout:
        """Files, results and Snakemake's records, with their times."""
        shutil.copytree(self.folder, target, symlinks=True)
        return Checkout(target)

    def with_environment(self) -> Checkout:
        """Itself, with the environment of this project for ``make``, so that nothing is installed again."""
        assert (PROJECT / ".venv" / ".segue-stamp").exists(), "run the tests with `make test`"
        (self.folder / ".venv").symlink_to(PROJECT / ".venv", target_is_directory=True)
        for name in ("pyproject.toml", "envs/requirements.lock", "envs/photos.txt", "setup.py"):
            if (file := self.folder / name).exists():
                os.utime(file, (0, 0))
        for file in (self.folder / "ops").rglob("*"):
            os.utime(file, (0, 0))
        return self


def project_files() -> list[str]:
    """What a commit of the present state would hold."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.splitlines() if (PROJECT / name).is_file()]


def fresh_checkout(target: Path) -> Checkout:
    """A copy of the project without results; compiled operators and modules come along."""
    files = project_files()
    modules = [Path(cache_from_source(PROJECT / name)) for name in files if name.endswith(".py")]
    compiled = [*(PROJECT / "ops").glob("*.so"), *(file for file in modules if file.is_file())]
    for name in [*files, *(str(file.relative_to(PROJECT)) for file in compiled)]:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(PROJECT / name, target / name)
    return Checkout(target)
