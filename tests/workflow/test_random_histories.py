"""Whatever happens to a project and its results: the last table is that of a fresh run, or the workflow refuses with a line.

Random sequences of configuring, editing code, copying, moving, deleting, damaging and killing, on a workflow smaller than micro
with real training. Not only the table is compared, but every checkpoint that is there, bit by bit.
``pytest tests/workflow/test_random_histories.py --histories 40`` plays forty of them.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO

import psutil
import pytest
import yaml
from checkout import Checkout, fresh_checkout
from warm_snakemake import Running

pytestmark = pytest.mark.xdist_group("histories")

SNAKEMAKE = Path(__file__).with_name("warm_snakemake.py")
CONFIG = "tiny.yaml"
TARGET = "tables"
TABLE = "tables/metrics.csv"
LOSS = "model/losses/reasoning_distillation.py"
DOUBLED = """

_once = reasoning_distillation


def reasoning_distillation(*arguments, **named):
    return tuple(2 * term for term in _once(*arguments, **named))
"""
"""Appended to the module of DKD's distillation: code that gives other numbers."""


@dataclass(frozen=True)
class Wanted:
    """A configuration and the state of the code: what the last table has to follow."""

    weight: int = 5
    memory: int = 4
    scenes: int = 0
    doubled: bool = False

    def config(self, results: str) -> dict:
        """The configuration."""
        method = {"name": "dkd-m", "hyper_parameters": {"distillation_weight": self.weight}}
        recipe = {
            "extends": "deeplabv3-micro",
            "network": {"head": "dkd", "background": False, "auxiliary": True},
            "increment": {"iterations": 6, "learning_rate": 1.0e-2},  # so large that everything shows in the table
        }
        data = {"kind": "shapes", "stuff": 2, "things": 2, "size": [32, 32], "train_images": 12, "val_images": 4}
        experiment = {
            "dataset": "tiny",
            "scenarios": ["2-2"],
            "recipe": "smaller",
            "methods": [method],
            "memory": {"selection": "class-proportional", "size": self.memory},
        }
        return {
            "schema_version": 1,
            "results": results,
            "datasets": {"tiny": {**data, "seed": self.scenes}},
            "recipes": {"smaller": recipe},
            "experiments": [experiment],
            "gallery": {"images": 0},
        }


def tree(folder: Path) -> dict[str, str]:
    """Content of every file that is not the workflow's own."""
    found = {}
    for path, folders, files in os.walk(folder):
        own = {".snakemake", ".cache", "__pycache__"} | ({"results"} if (Path(path) / "Snakefile").exists() else set())
        own |= {"archive"} if Path(path) == folder else set()
        folders[:] = [name for name in folders if name not in own]
        for name in files:
            file = Path(path) / name
            found[str(file.relative_to(folder))] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found


@dataclass(frozen=True)
class Done:
    """A workflow that has ended."""

    returncode: int
    stdout: str
    stderr: str


def environment() -> dict[str, str]:
    """What workflows run in."""
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "SLURM_JOB_ID")}
    return kept | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "SEGUE_SNAPSHOT_MINUTES": "0.005"}


@dataclass
class History:
    """A project in a folder of its own, and what has happened to it.

    Attributes:
        folder: holds checkouts, an ``archive`` that results may move to, and a file of somebody else.
        generator: decides.
        server: address of :mod:`warm_snakemake`.
        checkout: where work goes on.
        results: as the configuration names it.
        wanted: what the last table has to follow.
        told: what was done, for messages.
    """

    folder: Path
    generator: random.Random
    server: str
    checkout: Checkout = field(init=False)
    results: str = "results"
    wanted: Wanted = Wanted()
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.checkout = fresh_checkout(self.folder / "checkout0")
        (self.folder / "notes").mkdir()
        (self.folder / "notes/mine.txt").write_text("not of Segue's")
        self.configure()

    @property
    def place(self) -> Path:
        """The results folder."""
        return self.checkout.folder / self.results

    def configure(self) -> None:
        """Write the configuration and the code that are wanted."""
        text = yaml.safe_dump(self.wanted.config(self.results), sort_keys=False)
        (self.checkout.folder / CONFIG).write_text(text)
        loss = self.checkout.folder / LOSS
        plain = loss.read_text().removesuffix(DOUBLED)
        loss.write_text(plain + DOUBLED * self.wanted.doubled)

    # ------------------------------------------------------------------------------------------------------- what happens

    def reconfigure(self) -> None:
        """Other values, which may be those of before."""
        pick = self.generator.choice
        self.wanted = Wanted(pick((5, 50)), pick((4, 6)), pick((0, 0, 1)), pick((False, True)))
        self.configure()
        self.told.append(f"configured {self.wanted}")

    def run(self) -> None:
        """Run as far as it goes."""
        said = self._snakemake()
        self.told.append(f"ran: {'well' if said is None else said}")

    def kill(self) -> None:
        """Start, and end it somewhere in the middle: as a power cut, or by Ctrl-C."""
        how = self.generator.choice([signal.SIGKILL, signal.SIGINT])
        if self.generator.random() < 0.5:  # or there might be nothing to be done
            self.reconfigure()
        before, started = tree(self.folder), time.time()
        with (self.folder / "snakemake.log").open("a") as log:
            running = self._start(log, log)
        jobs, wait = self.generator.randint(1, 4), self.generator.uniform(0, 3)
        while running.poll() is None and self._logs(started) < jobs:
            time.sleep(0.1)
        while running.poll() is None and wait > 0:
            time.sleep(0.1)
            wait -= 0.1
        ended = running.poll()
        with suppress(psutil.NoSuchProcess):
            workflow = psutil.Process(running.pid)
            for process in [workflow, *workflow.children(recursive=True)] if ended is None else []:
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(how)
        running.wait()
        shutil.rmtree(self.checkout.folder / ".snakemake/locks", ignore_errors=True)  # as snakemake --unlock
        self._check_outside(before)
        self.told.append(f"killed by {how.name}" if ended is None else f"too fast for {how.name}: ended with {ended}")

    def copy(self) -> None:
        """Work goes on in another checkout, with a copy of the results; with or without times, never with ``.snakemake``."""
        number = len(list(self.folder.glob("checkout*")))
        other = fresh_checkout(self.folder / f"checkout{number}")
        function = self.generator.choice([shutil.copyfile, shutil.copy2])
        if self.place.exists():
            shutil.rmtree(other.folder / "results")
            shutil.copytree(self.place, other.folder / "results", copy_function=function)
        self.checkout, self.results = other, "results"
        self.configure()
        self.told.append(f"copied by {function.__name__}")

    def move(self) -> None:
        """The results folder gets another place."""
        if not self.place.exists():
            return
        number = len(list(self.folder.glob("archive/*")))
        target = self.folder / "archive" / f"place{number}"
        target.parent.mkdir(exist_ok=True)
        self.place.rename(target)
        self.results = str(target)
        self.configure()
        self.told.append("moved")

    def share(self) -> None:
        """Another checkout, with Snakemake's files of its own, works on the same folder."""
        self.results = str(self.place.resolve())
        number = len(list(self.folder.glob("checkout*")))
        self.checkout = fresh_checkout(self.folder / f"checkout{number}")
        self.configure()
        self.told.append("shared")

    def delete(self) -> None:
        """A file or a folder of the results, or all that Snakemake remembers, is gone."""
        snakemake = self.checkout.folder / ".snakemake"
        if self.generator.random() < 0.2 and snakemake.exists():
            shutil.rmtree(snakemake)
            self.told.append("deleted .snakemake")
            return
        found = [path for path in sorted(self.place.rglob("*")) if "data" not in path.relative_to(self.place).parts[:1]]
        if found:
            path = self.generator.choice(found)
            shutil.rmtree(path) if path.is_dir() else path.unlink()
            self.told.append(f"deleted {path.relative_to(self.place)}")

    def damage(self) -> None:
        """A file of the results holds something else, of the same size and with the same time."""
        kinds = "checkpoint.pt", "*.json", "*.npz", "*.csv"
        found = [
            f
            for kind in kinds
            for f in sorted(self.place.rglob(kind))
            if "data" not in f.relative_to(self.place).parts[:1]
        ]
        if found:
            file = self.generator.choice(found)
            content, stat = bytearray(file.read_bytes()), file.stat()
            place = self.generator.randrange(len(content) or 1)
            content[place : place + 1] = bytes([content[place] ^ 1]) if content else b""
            file.write_bytes(content)
            os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
            self.told.append(f"damaged {file.relative_to(self.place)} at {place}")

    def touch(self) -> None:
        """Times of files mean nothing."""
        for file in sorted(self.place.rglob("*")):
            if file.is_file() and self.generator.random() < 0.3:
                seconds = self.generator.randint(10**9, 2 * 10**9)
                os.utime(file, (seconds, seconds))
        self.told.append("touched")

    # ------------------------------------------------------------------------------------------------------- how it ends

    def end(self) -> str | None:
        """Run the final configuration to its end; the line with which the workflow refuses, or None."""
        said = self._snakemake()
        if said is None:
            again = self._run("--dry-run")
            assert "Nothing to be done" in again.stdout + again.stderr, self.story() + again.stderr
        return said

    def outcome(self) -> Results:
        """What the results folder holds in the end; intermediate checkpoints may have been deleted."""
        files = [self.place / TABLE, *sorted(self.place.glob("*/**/checkpoint.pt"))]
        return {file.relative_to(self.place).as_posix(): file.read_bytes() for file in files}

    def story(self) -> str:
        """What happened."""
        return "\n".join(["", *self.told, ""])

    def _snakemake(self) -> str | None:
        before = tree(self.folder)
        done = self._run()
        self._check_outside(before)
        if done.returncode == 0:
            return None
        assert "Traceback" not in done.stderr and "a bug" not in done.stderr, self.story() + done.stderr
        lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        lines += re.findall(r"^WorkflowError.*\n(.*)", done.stderr, re.MULTILINE)
        assert lines, self.story() + done.stderr
        return lines[0]

    def _check_outside(self, before: dict[str, str]) -> None:
        after = tree(self.folder)
        for either in (before, after):
            either.pop("snakemake.log", None)
        assert after == before, self.story()

    def _logs(self, since: float) -> int:
        return sum(1 for file in self.place.glob("logs/**/*.log") if file.stat().st_mtime >= since)

    def _start(self, output: IO[str], errors: IO[str], *arguments: str) -> Running:
        command = [str(SNAKEMAKE), "--cores", "2", TARGET, "--configfile", CONFIG, *arguments]
        with open(os.devnull) as nothing:
            files = [file.fileno() for file in (nothing, output, errors)]
            return Running(self.server, command, str(self.checkout.folder), environment(), files)

    def _run(self, *arguments: str) -> Done:
        with TemporaryFile("w+") as output, TemporaryFile("w+") as errors:
            code = self._start(output, errors, *arguments).wait()
            output.seek(0)
            errors.seek(0)
            return Done(code, output.read(), errors.read())


WEIGHTS: dict[Callable[[History], None], int] = {
    History.reconfigure: 4,
    History.run: 3,
    History.kill: 3,
    History.copy: 2,
    History.move: 1,
    History.share: 1,
    History.delete: 2,
    History.damage: 2,
    History.touch: 1,
}
LENGTH = 5


Results = dict[str, bytes]
"""The table, and the checkpoints that are there, by path."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Address of a process that workflows are forked from."""
    with TemporaryDirectory() as folder:
        address = f"{folder}/socket"
        command = [sys.executable, str(SNAKEMAKE), "--serve", address]
        with subprocess.Popen(command, stdin=subprocess.PIPE, env=environment()) as process:
            while not os.path.exists(address):
                assert process.poll() is None
                time.sleep(0.1)
            yield address


@pytest.fixture(scope="module")
def fresh(server: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Wanted], Results]:
    """The results of a fresh run of a configuration; each is made once."""
    known: dict[Wanted, Results] = {}

    def results(wanted: Wanted) -> Results:
        if wanted not in known:
            history = History(tmp_path_factory.mktemp("fresh"), random.Random(0), server, wanted=wanted)
            assert history.end() is None
            known[wanted] = history.outcome()
            shutil.rmtree(history.folder)
        return known[wanted]

    return results


def test_every_edit_shows_in_the_table(fresh: Callable[[Wanted], Results]):
    """Or the histories would show nothing."""
    edits = Wanted(), Wanted(weight=50), Wanted(doubled=True)
    assert len({fresh(wanted)[TABLE] for wanted in edits}) == len(edits)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "number" in metafunc.fixturenames:
        first = metafunc.config.getoption("--histories-seed")
        metafunc.parametrize("number", range(first, first + metafunc.config.getoption("--histories")))


def test_the_last_table_is_that_of_a_fresh_run(
    number: int, server: str, tmp_path: Path, fresh: Callable[[Wanted], Results]
):
    generator = random.Random(number)
    history = History(tmp_path, generator, server)
    if generator.random() < 0.7:  # most begin with results
        history.run()
    for step in generator.choices(list(WEIGHTS), list(WEIGHTS.values()), k=LENGTH):
        step(history)
    refused = history.end()
    print(history.story(), refused)
    if refused is None:
        found, expected = history.outcome(), fresh(history.wanted)
        assert found[TABLE] == expected[TABLE], history.story()
        others = [name for name, content in found.items() if content != expected.get(name, content)]
        assert not others, history.story()
    shutil.rmtree(tmp_path)
