"""``predict.py`` from checkpoint and photographs to files, which are read back by the rules of their formats."""

from __future__ import annotations

import contextlib
import io
import json
import runpy
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from stored_networks import PROJECT, prepared_shapes, stored_network

from model.data.prepared.dataset import PreparedDataset

ANY = {"object_threshold": 0.0, "overlap_threshold": 0.0}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("predict") / "results"
    classes = prepared_shapes(folder).classes
    stored_network(folder / "pixel", "semantic", classes("semantic"))
    stored_network(folder / "panoptic", "panoptic", classes("panoptic"), family="mask", **ANY)
    stored_network(folder / "instance", "instance", classes("instance"), family="mask", **ANY)
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Photographs of two sizes, one of them turned by its metadata."""
    folder, generator = tmp_path / "photos", np.random.default_rng(0)
    (folder / "more").mkdir(parents=True)
    pixels = cv2.resize(generator.integers(0, 256, (6, 8, 3), np.uint8), (80, 60))
    Image.fromarray(pixels).save(folder / "10.png")
    Image.fromarray(pixels[:, ::-1]).save(folder / "more" / "2.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(pixels[:48])).save(folder / "7.png", exif=exif)
    return folder


def predict(checkpoint: Path, images: Path, out: Path, *options: str) -> tuple[int, str]:
    output, before = io.StringIO(), sys.argv
    sys.argv = ["predict.py", "--checkpoint", str(checkpoint), "--images", str(images), "--out", str(out), *options]
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            runpy.run_path(str(PROJECT / "workflow_scripts/predict.py"), run_name="__main__")
        return 0, output.getvalue()
    except SystemExit as end:
        return int(end.code or 0), output.getvalue()
    finally:
        sys.argv = before


def written(out: Path) -> set[str]:
    return {file.relative_to(out).as_posix() for file in out.rglob("*") if file.is_file()}


def test_label_maps_hold_category_ids_at_the_size_of_the_photograph(
    results: Path, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    status, said = predict(results / "pixel/checkpoint.pt", photos, out, "--batch-size", "4", "--largest", "64")
    assert status == 0, said
    dataset = PreparedDataset.open(results / "data/shapes")
    for name, size in (("10", (60, 80)), ("more/2", (60, 80)), ("7", (48, 80))):
        labels = np.asarray(Image.open(out / "semantic" / f"{name}.png"))
        assert labels.shape == size
        assert set(np.unique(labels).tolist()) <= {*dataset.category_ids, dataset.background_id}
        assert np.unique(labels).size > 1
    record = json.loads((out / "predictions.json").read_text())
    maps = {f"{folder}/{name}.png" for folder in ("semantic", "overlays") for name in ("10", "more/2", "7")}
    assert set(record["files"]) == maps
    assert written(out) == maps | {"predictions.json", "made-by-segue.json"}
    assert {row["name"] for row in record["categories"]} == {category.name for category in dataset.categories}


def check_panoptic(document: dict[str, Any], folder: Path) -> None:
    """What panopticapi's ``pq_compute`` and ``read_pan_result`` demand of a prediction."""
    categories = {category["id"] for category in document["categories"]}
    images = {image["id"]: image for image in document["images"]}
    assert len(images) == len(document["images"]) == len(document["annotations"])
    for annotation in document["annotations"]:
        image = images[annotation["image_id"]]
        drawn = np.asarray(Image.open(folder / annotation["file_name"]).convert("RGB"), dtype=np.uint32)
        ids = drawn[..., 0] + 256 * drawn[..., 1] + 256**2 * drawn[..., 2]
        assert ids.shape == (image["height"], image["width"])
        listed = {segment["id"]: segment for segment in annotation["segments_info"]}
        assert len(listed) == len(annotation["segments_info"])
        assert 0 not in listed  # void
        assert set(np.unique(ids).tolist()) - {0} == set(listed)  # each segment is in both, or panopticapi stops
        for number, segment in listed.items():
            assert segment["category_id"] in categories
            mask = ids == number
            assert segment["area"] == mask.sum() and segment["iscrowd"] == 0
            left, top, width, height = segment["bbox"]
            assert mask[top : top + height, left : left + width].sum() == mask.sum()
            assert mask[top].any() and mask[:, left + width - 1].any()
        things = {one["id"] for one in document["categories"] if one["isthing"]}
        stuff = [s["category_id"] for s in listed.values() if s["category_id"] not in things]
        assert len(stuff) == len(set(stuff))


def test_panoptic_results_follow_the_rules_of_their_format(results: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    status, said = predict(results / "panoptic/checkpoint.pt", photos, out, "--largest", "64")
    assert status == 0, said
    document = json.loads((out / "panoptic.json").read_text())
    check_panoptic(document, out / "panoptic")
    assert {one["image_id"] for one in document["annotations"]} == {"10", "more/2", "7"}
    assert any(one["segments_info"] for one in document["annotations"])


def test_panopticapi_reads_panoptic_results(results: Path, photos: Path, tmp_path: Path) -> None:
    """As a prediction and as the truth that it is compared with."""
    evaluation = pytest.importorskip(
        "panopticapi.evaluation", reason="panopticapi is not installed (it is in no registry)"
    )
    out = tmp_path / "out"
    assert predict(results / "panoptic/checkpoint.pt", photos / "*.png", out, "--no-overlays")[0] == 0
    with contextlib.redirect_stdout(io.StringIO()):
        found = evaluation.pq_compute(*[str(out / "panoptic.json")] * 2, *[str(out / "panoptic")] * 2)
    assert found["All"]["pq"] == 1 and found["All"]["n"] > 0


def test_images_with_numbers_for_names_have_them_as_ids(results: Path, photos: Path, tmp_path: Path) -> None:
    status, said = predict(results / "panoptic/checkpoint.pt", photos / "*.png", tmp_path / "out", "--no-overlays")
    assert status == 0, said
    document = json.loads((tmp_path / "out" / "panoptic.json").read_text())
    assert [one["image_id"] for one in document["annotations"]] == [10, 7]


def test_instance_results_are_read_by_pycocotools(results: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    status, said = predict(results / "instance/checkpoint.pt", photos, out)
    assert status == 0, said
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {**json.loads((out / "images.json").read_text()), "annotations": []}
        truth.createIndex()
        found = truth.loadRes(str(out / "instances.json"))
    assert found.getAnnIds()
    for one in found.loadAnns(found.getAnnIds()):
        image = truth.loadImgs([one["image_id"]])[0]
        mask = coco_mask.decode(one["segmentation"])
        assert mask.shape == (image["height"], image["width"])
        assert one["category_id"] in truth.getCatIds() and 0 <= one["score"] <= 1
        assert one["area"] == mask.sum()


def test_what_an_earlier_run_left_goes_and_foreign_files_stay(results: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert predict(results / "pixel/checkpoint.pt", photos, out)[0] == 0
    (out / "notes.txt").write_text("mine")
    assert predict(results / "instance/checkpoint.pt", photos / "10.png", out, "--no-overlays")[0] == 0
    own = {"predictions.json", "made-by-segue.json", "instances.json", "images.json"}
    assert written(out) == own | {"notes.txt"}


def test_a_photograph_that_cannot_be_read_stops_no_other(results: Path, photos: Path, tmp_path: Path) -> None:
    (photos / "10.png").write_bytes((photos / "10.png").read_bytes()[:90])
    (photos / "7.png").write_bytes(b"")
    status, said = predict(results / "pixel/checkpoint.pt", photos, tmp_path / "out", "--no-overlays")
    assert status == 1 and "Traceback" not in said
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "2 of 3 images could not be read" in lines[0]
    assert "7.png is empty" in said and "10.png cannot be read" in said
    assert "semantic/more/2.png" in written(tmp_path / "out")


def test_without_its_results_a_checkpoint_predicts_numbers_and_no_segments(
    results: Path, photos: Path, tmp_path: Path
) -> None:
    for name in ("pixel", "panoptic"):
        (tmp_path / f"{name}.pt").write_bytes((results / name / "checkpoint.pt").read_bytes())
    status, said = predict(tmp_path / "pixel.pt", photos, tmp_path / "one")
    assert status == 0, said
    assert json.loads((tmp_path / "one/predictions.json").read_text())["categories"][0]["name"].startswith("class ")
    status, said = predict(tmp_path / "panoptic.pt", photos, tmp_path / "two")
    assert status == 1 and "it is not known which classes are countable" in said
    data = str(results / "data/shapes/dataset.json")
    assert predict(tmp_path / "panoptic.pt", photos, tmp_path / "two", "--data", data)[0] == 0
