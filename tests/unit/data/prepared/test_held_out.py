"""Images held out of the training images: which they are, and that the folder reads like any dataset."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.data.prepared.class_index import build_class_index
from model.data.prepared.dataset import PreparedDataset
from model.data.prepared.held_out import HeldOutError, hold_out, is_held_out
from model.data.sources.prepare import prepare

OPTIONS = {"stuff": 2, "things": 2, "size": [32, 32], "train_images": 24, "val_images": 3}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "whole"
    prepare("shapes", OPTIONS, folder, name="whole")
    return folder


def ids(dataset: PreparedDataset, split: str) -> list[str]:
    return [record.id for record in dataset.records(split)]


def divided(whole: Path, name: str = "part", fraction: float = 0.25, seed: int = 0) -> PreparedDataset:
    hold_out(whole, whole.parent / name, name=name, fraction=fraction, seed=seed)
    return PreparedDataset.open(whole.parent / name)


def test_every_training_image_is_in_one_part_and_no_validation_image_of_the_dataset_in_any(whole: Path):
    dataset, part = PreparedDataset.open(whole), divided(whole)
    stays, held_out = ids(part, "train"), ids(part, "val")
    assert stays and held_out and not set(stays) & set(held_out)
    assert sorted(stays + held_out) == sorted(ids(dataset, "train"))
    assert part.name == "part" and part.categories == dataset.categories


def test_images_maps_and_annotations_are_those_of_the_whole_dataset(whole: Path):
    dataset, part = PreparedDataset.open(whole), divided(whole)
    for split in ("train", "val"):
        for record in part.records(split):
            before = dataset.record("train", record.id)
            np.testing.assert_array_equal(part.read_image(record), dataset.read_image(before))
            np.testing.assert_array_equal(part.read_semantic(split, record), dataset.read_semantic("train", before))
            np.testing.assert_array_equal(part.read_panoptic(split, record), dataset.read_panoptic("train", before))
        for read in ("panoptic_annotations", "instance_annotations"):
            own, before = getattr(part, read)(split), getattr(dataset, read)("train")
            wanted = set(ids(part, split))
            assert own["annotations"] == [one for one in before["annotations"] if one["image_id"] in wanted]
            assert {one["id"] for one in own["images"]} == wanted
    index, full = (build_class_index(one, "train", 1) for one in (part, dataset))
    rows = full.rows(index.image_ids)
    np.testing.assert_array_equal(index.presence("semantic"), full.presence("semantic")[rows])


def test_both_folders_can_be_moved_together(whole: Path, tmp_path: Path):
    divided(whole)
    shutil.copytree(whole.parent, tmp_path / "moved", symlinks=True)
    shutil.move(whole.parent / "whole", whole.parent / "away")
    try:
        part = PreparedDataset.open(tmp_path / "moved/part")
        record = part.records("val")[0]
        assert part.read_semantic("val", record).shape == part.read_image(record).shape[:2]
    finally:
        shutil.move(whole.parent / "away", whole.parent / "whole")


def test_another_seed_holds_other_images_out_and_the_same_one_the_same(whole: Path):
    first, again, other = (ids(divided(whole, f"part{n}", seed=s), "val") for n, s in enumerate((0, 0, 1)))
    assert first == again != other


def test_a_fraction_that_leaves_nothing_is_one_clear_line(whole: Path):
    with pytest.raises(HeldOutError, match="leaves none to evaluate; choose another fraction or seed"):
        divided(whole, fraction=1e-6)
    with pytest.raises(HeldOutError, match="leaves none to train on"):
        divided(whole, fraction=1 - 1e-9)


@given(st.text(min_size=1), st.integers(0, 5), st.floats(0.01, 0.98))
def test_a_larger_fraction_holds_the_same_images_out_and_more(image: str, seed: int, fraction: float):
    assert is_held_out(image, fraction + 0.01, seed) or not is_held_out(image, fraction, seed)


def test_the_fraction_is_that_of_many_images():
    held_out = sum(is_held_out(f"image{number}", 0.2, 0) for number in range(10_000))
    assert abs(held_out - 2000) < 5 * 40  # five standard deviations
