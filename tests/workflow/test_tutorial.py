"""The tutorial does what it says: its files are written and its commands run, in order, with fewer iterations.

The commands of its first section are those of the README, which has a test of its own.
"""

from __future__ import annotations

import csv
import os
import re
import subprocess
from pathlib import Path

import pytest
from checkout import PROJECT, Checkout

pytestmark = pytest.mark.xdist_group("micro")

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SECTIONS = re.split(r"^## ", (PROJECT / "docs/tutorial.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]


def run(checkout: Checkout, commands: str) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        ["bash", "-ec", commands], cwd=checkout.folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def methods(checkout: Checkout) -> set[str]:
    with (checkout.folder / "results/mine/tables/metrics.csv").open(encoding="utf-8") as stream:
        return {row["method"] for row in csv.DictReader(stream)}


def test_the_tutorial(micro: Checkout, tmp_path: Path) -> None:
    _, images, method, look = (dict_of_blocks(section) for section in SECTIONS)
    checkout = micro.copy(tmp_path / "segue").with_environment()
    folder = checkout.folder

    (folder / "make_pictures.py").write_text(images["python"][0], encoding="utf-8")
    configuration = re.sub(r"iterations: \d+", "iterations: 3", images["yaml"][0])
    (folder / "mine.yaml").write_text(configuration, encoding="utf-8")
    for commands in images["bash"]:
        run(checkout, commands)
    assert methods(checkout) == {"joint", "finetuning", "mib"}

    package = folder / "my_methods"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "quiet.py").write_text(method["python"][0], encoding="utf-8")
    changed, times = re.subn(r"^ +methods: .*\n", method[""][0], configuration, flags=re.MULTILINE)
    assert times == 1
    (folder / "mine.yaml").write_text(changed, encoding="utf-8")
    done = run(checkout, method["bash"][0])
    assert methods(checkout) == {"joint", "finetuning", "mib", "quiet"}
    assert "trainings: 6 present, 2 missing" in done, done

    for commands in look["bash"]:
        run(checkout, commands)
    assert len(list((folder / "predictions/mine/overlays").iterdir())) == 40
    assert (folder / "results/mine/report.html").is_file()


def dict_of_blocks(section: str) -> dict[str, list[str]]:
    """Language to its blocks, in order."""
    found: dict[str, list[str]] = {}
    for language, text in BLOCK.findall(section):
        found.setdefault(language, []).append(text)
    return found
