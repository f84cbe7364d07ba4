from pathlib import Path

import numpy as np
import pytest

from model.common.fingerprints import job_code
from model.common.own_folders import ForeignFolderError
from model.data.prepared.images import write_png
from model.data.sources import registry as sources
from model.data.sources.prepare import prepare


def test_every_kind_resolves_to_its_own_module() -> None:
    for kind in sources.SOURCES:
        assert (Path("model") / "data" / "sources" / f"{kind}.py").as_posix().replace("/", ".")[
            :-3
        ] == sources.module_of(kind)
    assert sources.categories("shapes", {"stuff": 2, "things": 3})[0].id == 0
    assert len(sources.categories("ade20k", {"root": "nowhere"})) == 150
    assert sources.orders("shapes", {}, "semantic") == {}


def test_preparation_depends_on_the_code_of_its_own_kind_and_not_on_the_table_of_kinds() -> None:
    code = job_code("prepare_dataset.py", sources.module_of("voc"))
    assert {"model.data.sources.voc", "model.data.sources.prepare", "model.data.prepared.preparation"} <= set(code)
    assert not {"model.data.sources.registry", "model.common.registry", "model.data.sources.ade20k"} & set(code)


def test_unknown_kinds_and_options_are_named(tmp_path: Path) -> None:
    with pytest.raises(sources.SourceError, match="unknown dataset kind 'shape'; did you mean 'shapes'"):
        sources.module_of("shape")
    with pytest.raises(sources.SourceError, match="has no option 'colour'"):
        sources.source("shapes", {"colour": 1})
    with pytest.raises(sources.SourceError, match="needs the option 'root'"):
        sources.source("ade20k", {})
    with pytest.raises(sources.SourceError, match=r"'x' cannot be prepared: folder .*gone does not exist"):
        prepare("ade20k", {"root": str(tmp_path / "gone")}, tmp_path / "out", name="x")


TOY = {"train_images": 3, "val_images": 1, "size": [32, 32]}


def test_other_code_prepares_everything_again_and_removes_only_what_its_record_lists(tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    prepare("shapes", TOY, folder, name="toy", code="one")
    maps = sorted((folder / "semantic" / "train").iterdir())
    mine = folder / "semantic" / "train" / "mine.png"
    mine.write_bytes(b"mine")
    times = [file.stat().st_mtime_ns for file in maps]
    prepare("shapes", TOY, folder, name="toy", code="one")
    assert [file.stat().st_mtime_ns for file in maps] == times
    prepare("shapes", TOY, folder, name="toy", code="two")
    assert all(file.stat().st_mtime_ns > time for file, time in zip(maps, times, strict=True))
    prepare("shapes", {**TOY, "train_images": 2}, folder, name="toy", code="two")
    assert [file.exists() for file in maps] == [True, True, False]
    assert not (folder / "raw/images/training" / maps[2].name).exists()
    assert mine.read_bytes() == b"mine" and (folder / "dataset.json").exists()


def photos(root: Path) -> dict[str, bytes]:
    """A folder dataset of one image a split, and its files."""
    for split in ("train", "val"):
        write_png(root / "images" / f"{split}.png", np.full((4, 4, 3), 7, np.uint8))
        write_png(root / "labels" / f"{split}.png", np.zeros((4, 4), np.uint8))
        (root / f"{split}.txt").write_text(split)
    (root / "classes.txt").write_text("sky")
    return contents(root)


def contents(root: Path) -> dict[str, bytes]:
    return {str(file.relative_to(root)): file.read_bytes() for file in sorted(root.rglob("*")) if file.is_file()}


@pytest.mark.parametrize(
    ("root", "prepared"),
    [
        ("data/photos", "data/photos"),
        ("work/data/photos/raw", "work/data/photos"),
        ("photos", "photos/results/data/photos"),
        ("link", "data/photos"),
        ("data/photos", "link"),
        ("data/photos", "inner/data/photos"),
    ],
)
def test_raw_data_are_never_prepared_into_themselves(tmp_path: Path, root: str, prepared: str) -> None:
    raw = tmp_path / ("data/photos" if root == "link" else root)
    before = photos(raw)
    (tmp_path / "link").symlink_to(tmp_path / "data/photos")
    (tmp_path / "inner").symlink_to(tmp_path)
    with pytest.raises(ForeignFolderError, match=r"the raw data of dataset 'photos' .* keep the two apart"):
        prepare("folder", {"root": str(tmp_path / root)}, tmp_path / prepared, name="photos", code="new")
    assert contents(raw) == before


def test_a_folder_with_files_of_others_is_not_prepared_into(tmp_path: Path) -> None:
    photos(tmp_path / "raw")
    (tmp_path / "out/semantic/train").mkdir(parents=True)
    (tmp_path / "out/semantic/train/train.png").write_bytes(b"mine")
    before = contents(tmp_path)
    with pytest.raises(ForeignFolderError, match="out already exists and was not made by Segue"):
        prepare("folder", {"root": str(tmp_path / "raw")}, tmp_path / "out", name="photos")
    assert contents(tmp_path) == before


def test_a_split_that_is_renamed_takes_its_files_along(tmp_path: Path) -> None:
    photos(tmp_path / "raw")
    for splits in ({"train": {}, "val": {}}, {"train": {}, "test": {"list": "val.txt"}}):
        options = {"root": str(tmp_path / "raw"), "splits": splits}
        prepare("folder", options, tmp_path / "out", name="photos")
    left = [name for name in contents(tmp_path / "out") if "val" in name and "test" not in name]
    assert left == [] and (tmp_path / "out/semantic/test/val.png").exists()


def test_the_class_table_file_follows_what_was_prepared(tmp_path: Path) -> None:
    texts = set()
    for seed in (0, 1):
        options = {"train_images": 3, "val_images": 1, "size": [32, 32], "seed": seed}
        prepare("shapes", options, tmp_path / str(seed), name="toy")
        texts.add((tmp_path / str(seed) / "dataset.json").read_text())
    assert len(texts) == 2
