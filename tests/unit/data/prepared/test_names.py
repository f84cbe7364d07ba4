"""Names of images and splits stay inside their folder, and one name is one image."""

from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.data.prepared.names import NameOfDataError, image_name, refuse_repetition, split_name


@given(st.text(st.sampled_from("ab./\\ ~\0\n-é"), max_size=12))
def test_a_name_is_a_path_below_its_folder_or_refused(text: str) -> None:
    try:
        name = image_name(text, "list.txt")
    except NameOfDataError as error:
        assert str(error).startswith("list.txt: ")
        return
    home = Path("/home/data")
    assert (home / name).is_relative_to(home) and ".." not in PurePosixPath(name).parts
    assert image_name(name, "list.txt") == name


@pytest.mark.parametrize(
    ("text", "name"),
    [("one", "one"), ("./one", "one"), ("drive//7", "drive/7"), ("my photo 1", "my photo 1"), ("été.v2", "été.v2")],
)
def test_the_same_place_is_the_same_name(text: str, name: str) -> None:
    assert image_name(text, "") == name


@pytest.mark.parametrize("text", ["../one", "a/../../one", "/one", "a\\..\\one", "", ".", "a\nb", " "])
def test_names_that_lead_out_or_name_nothing_are_refused(text: str) -> None:
    with pytest.raises(NameOfDataError):
        image_name(text, "list.txt")


@pytest.mark.parametrize("text", ["../train", "a/b", "", ".hidden", "tr ain", "-rf"])
def test_names_of_splits_are_plain(text: str) -> None:
    with pytest.raises(NameOfDataError, match="no name of a split"):
        split_name(text)


def test_two_images_of_one_name_are_both_named() -> None:
    with pytest.raises(NameOfDataError, match=r"'one': s/one.png and one.png; rename or remove one"):
        refuse_repetition([("one", "s/one.png"), ("two", "two.png"), ("one", "one.png")], "train")
    with pytest.raises(NameOfDataError, match="lies in a folder with the name"):
        refuse_repetition([("one.png/two", "b"), ("one", "a")], "train")
    refuse_repetition([("a/one", "a"), ("b/one", "b"), ("one", "c")], "train")
