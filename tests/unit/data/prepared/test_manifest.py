"""Raw data that changed after they were prepared: noticed, named, and only what changed is done again."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from model.common.json_files import read_json
from model.data.prepared.dataset import PreparedDataset
from model.data.prepared.images import read_labels, write_png
from model.data.prepared.manifest import RawState
from model.data.sources import registry as sources
from model.data.sources.prepare import prepare

NAMES = {"train": ("one", "two", "three"), "val": ("four",)}


def write_map(file: Path, labels: np.ndarray) -> None:
    """Without compression: maps of one size have one number of bytes."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(labels).save(file, compress_level=0)


def write_raw(root: Path) -> Path:
    for number, name in enumerate(name for names in NAMES.values() for name in names):
        write_png(root / "images" / f"{name}.png", np.full((4, 6, 3), 40 * number, np.uint8), drawn=True)
        write_map(root / "labels" / f"{name}.png", np.full((4, 6), number % 2, np.uint8))
    for split, names in NAMES.items():
        (root / f"{split}.txt").write_text("\n".join(names))
    (root / "classes.txt").write_text("sky\ngrass\n")
    return root


class Data:
    """A folder dataset, and what was prepared from it."""

    def __init__(self, folder: Path) -> None:
        self.root, self.out = write_raw(folder / "raw"), folder / "out"
        self.prepare()

    def prepare(self, **options: Any) -> None:
        options = {"root": str(self.root), **options}
        token = sources.state_of("folder", options, self.out).token if self.out.exists() else ""
        prepare("folder", options, self.out, name="mine", token=token, code="code", spec={"kind": "folder"})

    def state(self, verify: bool = False) -> RawState:
        return sources.state_of("folder", {"root": str(self.root)}, self.out, verify)

    def times(self) -> dict[str, int]:
        """When each label map was written."""
        return {file.stem: file.stat().st_mtime_ns for file in self.out.glob("semantic/*/*.png")}

    @property
    def document(self) -> bytes:
        return (self.out / "dataset.json").read_bytes()


@pytest.fixture
def data(tmp_path: Path) -> Data:
    return Data(tmp_path)


def test_nothing_changed_whatever_was_touched_or_copied(data: Data, tmp_path: Path) -> None:
    before, times = data.document, data.times()
    assert data.state() == RawState("")
    for file in data.root.rglob("*.*"):
        os.utime(file, (10, 10))
        shutil.copy(file, tmp_path / "copy")
        file.unlink()
        shutil.copy(tmp_path / "copy", file)
    assert data.state() == data.state(verify=True) == RawState("")
    data.prepare()
    assert (data.document, data.times()) == (before, times)


def replace_photograph(root: Path) -> str:
    write_png(root / "images/two.png", np.full((4, 6, 3), 99, np.uint8))
    return "images/two.png was replaced"


def replace_map(root: Path) -> str:
    write_png(root / "labels/two.png", np.zeros((4, 6), np.uint8))
    return "labels/two.png was replaced"


def replace_map_unseen(root: Path) -> str:
    """The old size and time, as two versions of a dataset have that were unpacked with fixed times."""
    file = root / "labels/two.png"
    before = file.stat()
    write_map(file, np.zeros((4, 6), np.uint8))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_size == before.st_size
    return "labels/two.png was replaced"


def shorten_list(root: Path) -> str:
    (root / "train.txt").write_text("one\ntwo\n")
    return "train.txt was edited"


def rename_class(root: Path) -> str:
    (root / "classes.txt").write_text("sky\nlawn\n")
    return "classes.txt was edited"


def remove_map(root: Path) -> str:
    (root / "labels/two.png").unlink()
    return "labels/two.png is gone"


@pytest.mark.parametrize("change", [replace_photograph, replace_map, replace_map_unseen, shorten_list, rename_class])
def test_a_change_is_named_and_prepared_and_then_known(data: Data, change: Any) -> None:
    before, times = data.document, data.times()
    phrase = change(data.root)
    state = data.state()
    assert [one.endswith(phrase) for one in state.changes] == [True] and state.token not in ("", None)
    data.prepare()
    assert data.state() == RawState(state.token), "what Snakemake has noted is what the next plan says"
    assert data.document != before
    again = {name for name, time in data.times().items() if time != times[name]}
    assert again == ({"two"} if "two" in phrase else set())
    assert set(data.times()) == ({"one", "two", "four"} if change is shorten_list else set(times))


def test_what_is_gone_for_good_is_said_where_it_is_needed(data: Data) -> None:
    phrase = remove_map(data.root)
    assert data.state().changes[0].endswith(phrase)
    before = data.times()
    with pytest.raises(ValueError, match=r"two\(\.png\) does not exist"):
        data.prepare()
    assert data.times() == before and PreparedDataset.open(data.out).name == "mine"


def test_raw_data_that_were_archived_away_leave_what_was_prepared(data: Data) -> None:
    data.root.rename(data.root.with_name("elsewhere"))
    state = data.state()
    assert state.token == "" and not state.changes
    assert "raw does not exist" in state.note and "what was prepared before is used" in state.note


def test_moved_raw_data_are_found_without_preparing_an_image(data: Data) -> None:
    before, times = data.document, data.times()
    data.root = data.root.rename(data.root.with_name("elsewhere"))
    assert "is read instead of" in data.state().sentence
    data.prepare()
    assert (data.document, data.times()) == (before, times)
    record = PreparedDataset.open(data.out).records("train")[0]
    assert record.file == data.root / "images/one.png"


def test_maps_of_another_folder_are_not_taken_for_those_of_the_first(data: Data) -> None:
    for name in (name for names in NAMES.values() for name in names):
        other = data.root / "labels-2" / f"{name}.png"
        write_map(other, 1 - read_labels(data.root / "labels" / f"{name}.png"))
        stat = (data.root / "labels" / f"{name}.png").stat()
        os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert other.stat().st_size == stat.st_size
    data.prepare(splits={split: {"labels": "labels-2"} for split in NAMES})
    dataset = PreparedDataset.open(data.out)
    values = [int(dataset.read_semantic("train", record)[0, 0]) for record in dataset.records("train")]
    assert values == [1, 0, 1]


def test_a_damaged_record_is_a_change(data: Data) -> None:
    for name in ("raw-state.json", "raw-files.csv"):
        file = data.out / name
        whole = file.read_bytes()
        file.write_bytes(whole.replace(b"1", b"2"))
        assert data.state().changes
        file.write_bytes(whole)
    assert not data.state().changes
    (data.out / "dataset.json").unlink()
    assert data.state() == RawState()


def test_the_manifest_says_from_what(data: Data) -> None:
    manifest = read_json(data.out / "manifest.json")
    assert (manifest["spec"], manifest["code"]) == ({"kind": "folder"}, "code")
    assert manifest["splits"]["train"]["images"] == 3
    replace_photograph(data.root)
    data.prepare()
    changed = read_json(data.out / "manifest.json")
    assert changed["inventory"] != manifest["inventory"] and changed["content"] != manifest["content"]


def test_a_photograph_in_two_splits_is_a_warning(data: Data, capsys: pytest.CaptureFixture[str]) -> None:
    assert "two splits" not in capsys.readouterr().err
    shutil.copy(data.root / "images/one.png", data.root / "images/four.png")
    data.prepare()
    said = capsys.readouterr().err
    assert "warning: dataset 'mine': 1 photographs are in two splits, such as " in said
    assert "images/one.png and " in said and "images/four.png" in said


def test_a_symlinked_folder_is_read(data: Data, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(data.root)
    prepare("folder", {"root": str(tmp_path / "link")}, tmp_path / "linked", name="mine")
    assert len(PreparedDataset.open(tmp_path / "linked").records("train")) == 3
    (tmp_path / "big-disk").mkdir()
    (tmp_path / "prepared").symlink_to(tmp_path / "big-disk")
    for code in ("one", "two"):
        prepare("folder", {"root": str(data.root)}, tmp_path / "prepared", name="mine", code=code)
    assert (tmp_path / "big-disk/dataset.json").exists()
