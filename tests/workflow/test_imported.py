"""Files in the place of trainings: a base checkpoint and released weights go through the workflow as what they stand for.

The micro configuration has run; its base step and its last MiB step, the latter under the names of the released code, are the
files. So every value is known: it is that of the run they come from.
"""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from checkout import Checkout, Job

from model.interop.official_names import official_state
from model.training.checkpoint import load_checkpoint

pytestmark = pytest.mark.xdist_group("micro")
CONFIG = "imported.yaml"
RUN = "results/runs/shapes-micro/semantic_4-2_overlapped/deeplabv3-micro"


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def configuration(checkout: Checkout) -> dict[str, Any]:
    """The micro experiment under names for which there are published numbers, with files for base step and released row."""
    content = yaml.safe_load((checkout.folder / "config/micro.yaml").read_text())
    options = content["datasets"].pop("shapes-micro")
    classes = load_checkpoint(checkout.folder / RUN / "mib/seed0/step2/checkpoint.pt").classes
    steps = [list(classes[:4]), list(classes[4:6]), list(classes[6:])]
    (base,) = (checkout.folder / "results/base/shapes-micro").glob("deeplabv3_4-classes_*/seed0/checkpoint.pt")
    released = checkout.folder / "released.pth"
    state = official_state(load_checkpoint(checkout.folder / RUN / "mib/seed0/step2/checkpoint.pt"), "mib")
    torch.save({"model_state": state}, released)
    return {
        **content,
        "results": "imported-results",
        "datasets": {"voc": options},
        "experiments": [
            {
                **{"dataset": "voc", "scenarios": [{"name": "15-5", "steps": steps}], "recipe": "deeplabv3-micro"},
                "methods": ["mib"],
                "base_checkpoint": {"file": str(base), "format": "segue", "sha256": sha256(base)},
                "released": [
                    {
                        **{"file": str(released), "format": "mib", "sha256": sha256(released)},
                        **{"method": "mib", "scenario": "15-5"},
                    }
                ],
            }
        ],
    }


@pytest.fixture(scope="module")
def checkout(micro: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    found = micro.copy(tmp_path_factory.mktemp("imported") / "segue")
    (found.folder / CONFIG).write_text(yaml.safe_dump(configuration(found)))
    done = found.snakemake(config=CONFIG)
    assert done.returncode == 0, done.stderr + done.stdout
    return found


def values(file: Path, method: str, step: str) -> dict[tuple[str, str], str]:
    found = [row for row in rows(file) if row["method"] == method and row["step"] == step]
    # without what is a distance to joint training, which only the other configuration has
    return {(row["group"], row["metric"]): row["value"] for row in found if row["metric"] != "intransigence"}


def test_every_value_is_that_of_the_run_the_files_come_from(checkout: Checkout) -> None:
    ours, theirs = (
        checkout.folder / "imported-results/tables/metrics.csv",
        checkout.folder / "results/tables/metrics.csv",
    )
    for step in "012":
        assert values(ours, "mib", step) == values(theirs, "mib", step) != {}
    run, released = values(theirs, "mib", "2"), values(ours, "mib-released", "2")
    assert released.items() <= run.items() and ("all", "mIoU") in released
    of_all_steps = {"forgetting", "backward_transfer", "mIoU_avg"}
    assert {metric for _, metric in run.keys() - released.keys()} == of_all_steps
    assert not values(ours, "mib-released", "0")


def test_the_summary_has_value_published_value_difference_and_verdict(checkout: Checkout) -> None:
    summary = rows(checkout.folder / "imported-results/tables/summary.csv")
    (row,) = [row for row in summary if row["method"] == "mib-released" and row["group"] == "all"]
    assert row["published"] and float(row["difference"]) == pytest.approx(
        float(row["mean"]) - float(row["published"]), abs=1e-4
    )
    assert row["verdict"] == "outside ±1"
    text = (checkout.folder / "imported-results/tables/summary.md").read_text()
    assert "| method | scenario | classes | here | published | difference | verdict |" in text


def test_nothing_is_trained_for_a_file_and_a_second_run_has_nothing_to_do(checkout: Checkout) -> None:
    assert not (checkout.folder / "imported-results/base").exists()
    assert not checkout.planned(config=CONFIG)


def test_what_runs_again_is_what_depends_on_the_change(checkout: Checkout) -> None:
    content = yaml.safe_load((checkout.folder / CONFIG).read_text())
    recipe = yaml.safe_load((checkout.folder / "config/recipes/deeplabv3-micro.yaml").read_text())
    recipe["increment"]["learning_rate"] = 5.0e-4
    again = rules(checkout, {**content, "recipes": {"deeplabv3-micro": recipe}})
    assert "import_checkpoint" not in again and "train_step" in again  # no optimiser touches a file

    other = checkout.folder / "other.pth"
    other.write_bytes(Path(content["experiments"][0]["released"][0]["file"]).read_bytes() + b" ")
    content["experiments"][0]["released"][0] |= {"file": str(other), "sha256": sha256(other)}
    again = rules(checkout, content)
    assert "import_checkpoint" in again and "train_step" not in again


def rules(checkout: Checkout, content: dict[str, Any]) -> set[str]:
    (checkout.folder / "changed.yaml").write_text(yaml.safe_dump(content))
    jobs: set[Job] = checkout.planned(config="changed.yaml")
    return {job.rule for job in jobs}
