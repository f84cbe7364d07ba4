"""Released weights of the mask methods as rows of their own: from a file under the release's names to value and verdict.

The networks are those of the published recipes in small, with all classes of ADE20K's scenario 100-10 and values by the filling
rule of the recordings. That files of the released sizes are read is tested in tests/unit/interop.
"""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from checkout import Checkout, fresh_checkout
from golden import fill

from model.config.recipes import Recipes
from model.interop.formats import FORMATS
from model.interop.official_names import official_state
from model.networks import registry as networks
from model.training.checkpoint import Checkpoint

CONFIG = "released.yaml"
STEPS = [100, 10, 10, 10, 10, 10]
SMALL = {
    **{"backbone": "tiny", "norm": "bn", "channels": 32, "encoder_layers": 1, "decoder_layers": 2, "queries": 12},
    **{"encoder_feed_forward": 16, "decoder_feed_forward": 16},
}
RELEASES = {
    "balconpas": ("balconpas-r", "mask2former-r50-ade20k-panoptic", "balconpas", 36.49),
    "comformer": ("comformer", "mask2former-r50-ade20k-panoptic-comformer", "comformer", 29.7),
    "eclipse": ("eclipse", "mask2former-r50-ade20k-panoptic-eclipse-100-10", "comformer", 33.9),
    "simcis": ("simcis", "mask2former-r50-ade20k-panoptic-simcis", "balconpas", 38.1),
}
"""Format: method, recipe, protocol, and PQ over all classes that was published for 100-10."""


def experiment(folder: Path, form: str) -> dict[str, Any]:
    """An experiment that evaluates a file of a format and trains nothing; the file is written."""
    method, name, protocol, _ = RELEASES[form]
    recipe = Recipes().load(name)
    arguments = {**recipe.network, **recipe.increment.network, **SMALL}
    built = {key: value for key, value in arguments.items() if key not in ("name", "weights")}
    network = networks.build(arguments["name"], STEPS, built)
    fill(network)
    checkpoint = Checkpoint(network.state_dict(), tuple(range(150)), tuple(STEPS), 5, arguments)
    file = folder / f"{form}.pth"
    torch.save({FORMATS[form].container: official_state(checkpoint, form)}, file)
    entry = {"file": str(file), "format": form, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    return {
        **{"dataset": "ade20k", "task": "panoptic", "scenarios": ["100-10"], "recipe": f"small-{form}", "methods": []},
        **{"protocols": [protocol], "released": [{**entry, "method": method, "scenario": "100-10"}]},
    }


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    found = fresh_checkout(tmp_path_factory.mktemp("released") / "segue")
    generated = {"kind": "shapes", "stuff": 50, "things": 100, "size": [48, 64], "train_images": 2, "val_images": 4}
    small = {"network": {**SMALL, "weights": None}, "evaluation_size": 64, "threads": 1}
    content = {
        "schema_version": 1,
        "datasets": {"ade20k": generated},
        "recipes": {f"small-{form}": {"extends": release[1], **small} for form, release in RELEASES.items()},
        "experiments": [experiment(found.folder, form) for form in RELEASES],
        "gallery": {"images": 0},
    }
    (found.folder / CONFIG).write_text(yaml.safe_dump(content))
    done = found.snakemake(config=CONFIG)
    assert done.returncode == 0, done.stderr + done.stdout
    return found


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("form", RELEASES)
def test_the_table_has_value_published_value_difference_and_verdict(checkout: Checkout, form: str) -> None:
    method, _, protocol, published = RELEASES[form]
    tables = checkout.folder / "results" / "tables"
    (row,) = [
        row
        for row in rows(tables / "summary.csv")
        if row["method"] == f"{method}-released" and row["recipe"] == f"small-{form}" and row["group"] == "all"
    ]
    assert (row["metric"], row["protocol"], row["scenario"]) == ("PQ", protocol, "100-10")
    assert float(row["published"]) == published
    assert float(row["difference"]) == pytest.approx(float(row["mean"]) - published, abs=1e-4)
    assert row["verdict"] == "outside ±1"  # of weights that mean nothing
    text = (tables / "summary.md").read_text()
    assert "| method | scenario | classes | here | published | difference | verdict |" in text
    shown = f"| {method}-released | 100-10 | all | {float(row['mean']):.2f} | {published:.2f}"
    assert [line for line in text.splitlines() if line.startswith(shown) and line.endswith("| outside ±1 |")]


def test_nothing_was_trained(checkout: Checkout) -> None:
    results = checkout.folder / "results"
    assert not (results / "runs").exists() and not (results / "base").exists()
    assert len(list((results / "imported" / "ade20k").iterdir())) == len(RELEASES)
    assert not checkout.planned(config=CONFIG)
