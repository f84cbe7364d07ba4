"""A method of one's own – one file, one row – goes through the workflow: it runs, costs something, and re-runs alone."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import yaml
from checkout import MICRO, PROJECT, Checkout

CONFIG = "config/own-method.yaml"


def test_one_file_and_one_row_are_enough(micro: Checkout, tmp_path: Path) -> None:
    checkout = micro.copy(tmp_path / "own")
    own = checkout.folder / "model/methods/pixel/every_hook.py"
    shutil.copy(PROJECT / "tests/support/every_hook.py", own)
    registry = checkout.folder / "model/methods/registry.py"
    row = '    "per-pixel": {\n'
    source = registry.read_text(encoding="utf-8")
    assert source.count(row) == 1
    registry.write_text(
        source.replace(row, f'{row}        "every-hook": "model.methods.pixel.every_hook:EveryHook",\n')
    )
    config = yaml.safe_load((checkout.folder / MICRO).read_text(encoding="utf-8"))
    (experiment,) = [entry for entry in config["experiments"] if entry.get("task", "semantic") == "semantic"][:1]
    experiment["methods"].append("every-hook")
    (checkout.folder / CONFIG).write_text(yaml.safe_dump(config), encoding="utf-8")

    def trainings() -> list[str]:
        return sorted(job.output for job in checkout.planned(config=CONFIG) if job.rule.startswith("train_"))

    own_trainings = trainings()
    assert len(own_trainings) == 3 and [name.startswith("base/") for name in own_trainings] == [True, False, False]
    assert all("every-hook" in name for name in own_trainings[1:])
    done = checkout.snakemake(config=CONFIG)
    assert done.returncode == 0, done.stderr + done.stdout

    rows = list(csv.DictReader((checkout.folder / "results/tables/costs.csv").open(encoding="utf-8")))
    assert {row["method"]: int(row["state_bytes"]) > 0 for row in rows if row["method"] in ("every-hook", "mib")} == {
        "every-hook": True,
        "mib": False,
    }
    assert checkout.planned(config=CONFIG) == set()

    text = own.read_text(encoding="utf-8")
    own.write_text(text.replace("learning_rate_factor=2.0", "learning_rate_factor=3.0"), encoding="utf-8")
    assert trainings() == own_trainings
