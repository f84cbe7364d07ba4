"""Which files are predicted, and what their results are called."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.data.prepared.images import read_rgb
from model.evaluation.prediction.photographs import PhotographError, ReadPhotographs, find_photographs, within


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.jpg", "a.PNG", "deep/er/c.jpeg", ".hidden.jpg", ".cache/d.jpg", "notes.txt"):
        file = tmp_path / "photos" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6), (10, 20, 30)).save(file.with_suffix(".png"))
        file.with_suffix(".png").rename(file)
    return tmp_path / "photos"


def names(*places: object) -> list[str]:
    return [one.name for one in find_photographs([str(place) for place in places])]


def test_a_folder_means_all_images_in_it(folder: Path) -> None:
    assert names(folder) == ["a", "b", "deep/er/c"]


def test_a_pattern_means_the_files_that_match(folder: Path) -> None:
    assert names(folder / "*.jpg") == ["b"]
    assert names(folder / "**" / "*.jp*g") == ["b", "c"]


def test_a_file_is_taken_whatever_its_ending(folder: Path) -> None:
    assert names(folder / "notes.txt", folder / "b.jpg", folder / "b.jpg") == ["b", "notes"]


def test_files_that_differ_in_their_ending_only_keep_it(folder: Path) -> None:
    (folder / "b.png").write_bytes((folder / "b.jpg").read_bytes())
    assert names(folder) == ["a", "b.jpg", "b.png", "deep/er/c"]


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("nowhere", "there is no such file or folder"),
        ("nowhere/*.jpg", "no file matches"),
        ("empty", "holds no image"),
        (" ", "no images are given"),
    ],
)
def test_a_place_without_images_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, said: str
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PhotographError, match=said) as error:
        find_photographs([place])
    assert "\n" not in str(error.value)


def test_two_images_of_one_name_are_refused(folder: Path) -> None:
    with pytest.raises(PhotographError, match=r"two images would have results of the name 'c\.jpeg'"):
        (folder / "c.jpeg").write_bytes((folder / "b.jpg").read_bytes())
        find_photographs([str(folder / "c.jpeg"), str(folder / "deep/er/c.jpeg")])


def test_reading_turns_as_the_metadata_say_and_tells_what_cannot_be_read(folder: Path) -> None:
    upright = np.zeros((6, 8, 3), np.uint8)
    upright[0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90° clockwise
    Image.fromarray(np.rot90(upright)).save(folder / "a.PNG", exif=exif)
    (folder / "b.jpg").write_bytes(b"no image")
    read = ReadPhotographs(find_photographs([str(folder)]))
    np.testing.assert_array_equal(read[0][1], upright)
    assert isinstance(read[1][1], str) and "b.jpg cannot be read as an image" in read[1][1]
    np.testing.assert_array_equal(read[2][1], read_rgb(folder / "deep/er/c.jpeg"))


def test_large_images_are_scaled_down_and_others_left() -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 90, 3), np.uint8)
    assert within(image, 90) is image
    assert within(image, 45).shape == (15, 45, 3)
