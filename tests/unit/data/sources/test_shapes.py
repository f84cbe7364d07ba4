"""What the embedded dataset promises: hard for colours, mixed scenes, a long tail, equal seeds equal data."""

from pathlib import Path

import numpy as np
import pytest

from model.data.prepared.class_index import build_class_index
from model.data.prepared.dataset import PreparedDataset
from model.data.sources.shape_scenes import draw_scene, shape_classes
from model.data.sources.shapes import Shapes, scene_generator
from model.scenario import Scenario
from model.splits.selection import select_images

CLASSES = shape_classes(5, 5)


def scenes(split: str, number: int, seed: int = 0) -> list:
    return [draw_scene(CLASSES, (64, 96), scene_generator(seed, split, k)) for k in range(number)]


@pytest.fixture(scope="module")
def training() -> list:
    return scenes("train", 300)


def test_colour_alone_decides_little(training: list) -> None:
    """A classifier by nearest mean colour stays below 30 % mIoU; a small network is meant to pass 55 %."""
    pixels = np.concatenate([scene.image.reshape(-1, 3) for scene in training]).astype(np.float32)
    labels = np.concatenate([scene.labels.ravel() for scene in training])
    means = np.stack([pixels[labels == k].mean(axis=0) for k in range(1, 11)])
    confusion = np.zeros((10, 10))
    for scene in scenes("val", 60):
        colours = scene.image.reshape(-1, 1, 3).astype(np.float32)
        nearest = ((colours - means) ** 2).sum(axis=-1).argmin(axis=1)
        known = scene.labels.ravel() > 0
        pairs = 10 * (scene.labels.ravel()[known].astype(int) - 1) + nearest[known]
        confusion += np.bincount(pairs, minlength=100).reshape(10, 10)
    hits = np.diag(confusion)
    iou = hits / (confusion.sum(axis=0) + confusion.sum(axis=1) - hits)
    assert 0.05 < iou.mean() < 0.30


def test_class_frequencies_have_a_long_tail(training: list) -> None:
    images = sum(np.bincount(np.unique(scene.labels), minlength=11) > 0 for scene in training)[1:]
    assert images.max() >= 8 * images.min() and images.min() >= 10
    assert sum(bool((scene.labels == 0).any()) for scene in training) > 30


def test_scenes_hold_several_overlapping_instances(training: list) -> None:
    numbers = [np.unique(scene.instances[..., 1]) for scene in training]
    assert np.mean([len(found) - 1 for found in numbers]) > 2
    for scene in training[:50]:
        thing = scene.instances[..., 1] > 0
        assert ((scene.instances[..., 0] > 0) == thing).all()
        for number in np.unique(scene.instances[thing][:, 1]):
            mask = scene.instances[..., 1] == number
            assert len(np.unique(scene.instances[mask][:, 0])) == 1 == len(np.unique(scene.labels[mask]))


def test_later_steps_mostly_show_earlier_classes_unlabelled(tmp_path: Path) -> None:
    Shapes(train_images=150, val_images=1).prepare(tmp_path, "shapes", 1)
    dataset = PreparedDataset.open(tmp_path)
    index = build_class_index(dataset, "train")
    scenario = Scenario.from_name("6-2", dataset.category_ids)
    for t in range(1, len(scenario)):
        step = scenario.step(t)
        presence = index.presence("semantic")[select_images(index, step, "semantic", "overlapped")]
        assert presence[:, index.columns(step.past)].any(axis=1).mean() >= 0.5
    steps = map(scenario.step, range(len(scenario)))
    assert all(len(select_images(index, step, "semantic", "disjoint")) >= 10 for step in steps)
    for increment in scenario.increments:
        assert {category.isthing for category in dataset.categories if category.id in increment} == {True, False}


@pytest.mark.parametrize(("stuff", "things"), [(4, 4), (5, 5), (5, 10), (50, 100), (1, 1)])
def test_any_number_of_classes(stuff: int, things: int) -> None:
    classes = shape_classes(stuff, things)
    kinds = [kind.isthing for kind in classes]
    assert kinds.count(False) == stuff and kinds.count(True) == things
    assert (
        len({kind.name for kind in classes}) == stuff + things == len({(k.isthing, k.look, k.detail) for k in classes})
    )
    window = -(-(stuff + things) // min(stuff, things)) + 1
    assert all(len(set(kinds[k : k + window])) == 2 for k in range(len(kinds) - window + 1))
    scene = draw_scene(classes, (64, 64), scene_generator(0, "train", 0), required=len(classes) - 1)
    assert (scene.labels == len(classes)).any()


def test_impossible_options_are_named() -> None:
    with pytest.raises(ValueError, match="1…50 stuff and 1…100 thing classes, not 51 and 3"):
        Shapes(stuff=51, things=3)
    with pytest.raises(ValueError, match=r"shapes.size = \[60, 96\]"):
        Shapes(size=(60, 96))
    with pytest.raises(ValueError, match="at least one training"):
        Shapes(val_images=0)


def files(folder: Path) -> dict[str, bytes]:
    dated = ("journal", "raw-files.csv", "raw-state.json")
    kept = (file for file in folder.rglob("*") if file.is_file() and not set(dated) & set(file.parts))
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in kept}


def test_equal_options_equal_files(tmp_path: Path) -> None:
    options = {"train_images": 70, "val_images": 3}
    Shapes(**options).prepare(tmp_path / "a", "shapes", 1)
    Shapes(**options).prepare(tmp_path / "b", "shapes", 2)
    Shapes(**options, seed=1).prepare(tmp_path / "c", "shapes", 1)
    first, second, other = (files(tmp_path / name) for name in "abc")
    assert first == second
    name = "raw/images/training/ADE_train_00000001.png"
    assert first[name] != other[name]


def test_changed_options_leave_nothing_of_the_old_data(tmp_path: Path) -> None:
    Shapes(train_images=8, val_images=4).prepare(tmp_path / "a", "shapes", 1)
    Shapes(train_images=5, val_images=4, stuff=2, things=2).prepare(tmp_path / "a", "shapes", 1)
    dataset = PreparedDataset.open(tmp_path / "a")
    assert len(dataset.categories) == 4 and len(dataset.records("train")) == 5
    assert int(build_class_index(dataset, "train").pixels.sum()) > 0


def test_training_and_validation_share_no_scene(training: list) -> None:
    seen = {scene.labels.tobytes() for scene in training}
    assert len(seen) == len(training)
    assert not any(scene.labels.tobytes() in seen for scene in scenes("val", 60))


def test_every_class_is_shown_even_in_a_small_dataset(shapes: PreparedDataset) -> None:
    for split in ("train", "val"):
        assert (build_class_index(shapes, split).presence("semantic").sum(axis=0) >= 2).all()


def test_the_raw_layout_is_that_of_ade20k(shapes_folder: Path) -> None:
    raw = shapes_folder / "raw"
    table = (raw / "objectInfo10.txt").read_text().splitlines()
    assert table[0].split("\t") == ["Idx", "Ratio", "Train", "Val", "Name"] and len(table) == 11
    assert 0.99 < sum(float(row.split("\t")[1]) for row in table[1:]) < 1.01
    for part in ("images", "annotations", "annotations_instance"):
        names = sorted(file.stem for file in (raw / part / "training").iterdir())
        assert names == [f"ADE_train_{k:08d}" for k in range(1, 61)]
