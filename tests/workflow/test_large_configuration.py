"""A configuration may be larger than what a command line holds (128 kB), and a dataset may have thousands of classes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import yaml
from checkout import PROJECT
from PIL import Image

CLASSES = [f"a class whose name is rather long, number {number}" for number in range(3000)]
RECIPE = {
    "extends": "deeplabv3-micro",
    "base": {"iterations": 1},
    "increment": {"iterations": 1},
    "batch_size": 2,
}


def write_raw(root: Path) -> None:
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    labels = (np.arange(64 * 64) % len(CLASSES)).reshape(64, 64).astype(np.uint16)
    for split, names in (("train", ["one", "two"]), ("val", ["three"])):
        (root / f"{split}.txt").write_text("\n".join(names))
        for name in names:
            Image.fromarray(labels).save(root / "labels" / f"{name}.png")
            Image.fromarray((labels % 251).astype(np.uint8)).convert("RGB").save(root / "images" / f"{name}.jpg")


def test_all_of_it_runs(tmp_path):
    write_raw(tmp_path / "raw")
    experiment = {
        "dataset": "large",
        "scenarios": [{"name": "part", "steps": [CLASSES[:40], CLASSES[2000:2010]]}],
        "recipe": "tiny",
        "methods": ["finetuning-replay"],
        "memory": {"selection": "random", "size": 2},
        "note": "a remark " * 16_000,
    }
    config = {
        "schema_version": 1,
        "results": str(tmp_path / "results"),
        "datasets": {"large": {"kind": "folder", "root": str(tmp_path / "raw"), "classes": CLASSES}},
        "recipes": {"tiny": RECIPE},
        "experiments": [experiment],
    }
    file = tmp_path / "large.yaml"
    file.write_text(yaml.safe_dump(config))
    assert file.stat().st_size > 280_000
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(PROJECT / "Snakefile"), "--cores", "2"]
    command += ["--configfile", str(file), "--directory", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "a class whose name is rather long, number 2009" in (tmp_path / "results/tables/per_class.csv").read_text()
