"""Raw data that are edited, touched, moved or put away after a workflow has prepared them."""

from pathlib import Path

import numpy as np
import yaml
from checkout import Checkout, fresh_checkout
from PIL import Image
from raw_datasets import write_photos

CONFIG = "mine.yaml"
CONTENT = {
    "schema_version": 1,
    "datasets": {"photos": {"kind": "folder", "root": "photos"}},
    "experiments": [
        {"dataset": "photos", "scenarios": ["2-1"], "recipe": "deeplabv3-micro", "methods": ["finetuning"]},
    ],
}


def snakemake(checkout: Checkout, *arguments: str) -> str:
    done = checkout.snakemake("--nolock", *arguments, "prepare_all", config=CONFIG)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stderr + done.stdout


def test_what_was_edited_is_prepared_once_and_what_was_put_away_stays(tmp_path: Path) -> None:
    checkout = fresh_checkout(tmp_path / "checkout")
    photos = checkout.folder / "photos"
    write_photos(photos)
    (checkout.folder / CONFIG).write_text(yaml.safe_dump(CONTENT))
    snakemake(checkout)
    times = {file: file.stat().st_mtime_ns for file in checkout.folder.glob("results/data/photos/semantic/*/*.png")}

    Image.fromarray(np.zeros((24, 32), np.uint8)).save(photos / "labels/two.png")
    said = snakemake(checkout)
    assert "dataset 'photos' is prepared again: " in said and "labels/two.png was replaced" in said
    assert [file.name for file, time in times.items() if file.stat().st_mtime_ns != time] == ["two.png"]

    for file in photos.rglob("*.*"):
        file.touch()
    assert "Nothing to be done" in snakemake(checkout, "--dry-run")

    (photos / "classes.txt").write_text("sky\nlawn\nball\nbox\n")
    assert "rule prepare_dataset" in snakemake(checkout, "--dry-run")

    photos.rename(checkout.folder / "archived")
    said = snakemake(checkout, "--dry-run")
    assert "Nothing to be done" in said
    assert "photos does not exist" in said and "what was prepared before is used" in said
