"""Lists of images by step: what is read, what is refused, and the published partition of ADE20K."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.data.prepared.class_index import ClassIndex
from model.scenario import Scenario
from model.splits.image_lists import (
    ImageList,
    ImageListError,
    configured_lists,
    content_hash,
    find_list,
    parse_identity,
    published_lists,
    read_image_list,
)
from model.splits.selection import SplitError, make_split

INDEX = ClassIndex("toy", "train", ("c", "a", "b"), (1, 2), np.array([[9, 0], [9, 9], [0, 9]]))
STEP = Scenario("1-1", ((1,), (2,))).step(1)


@settings(deadline=None)
@given(st.permutations(range(12)), st.booleans())
def test_files_of_equal_content_are_one_list_whatever_their_order(tmp_path_factory, positions, as_text):
    folder = tmp_path_factory.mktemp("lists")
    file = folder / ("list.txt" if as_text else "list.npy")
    if as_text:
        file.write_text("".join(f"{position}\n" for position in positions))
    else:
        np.save(file, np.array(positions))
    wanted = ImageList(file.name, sha256=content_hash(range(12)), images=12, total=20)
    assert read_image_list(file, wanted) == tuple(range(12))


def test_a_column_of_a_matrix_is_the_list_of_its_step(tmp_path):
    np.save(tmp_path / "matrix.npy", np.array([[1, 0], [0, 1], [1, 0]]))
    lists = configured_lists("matrix.npy", "positions", 2, "1-1")
    assert [read_image_list(tmp_path / wanted.file, wanted) for wanted in lists] == [(0, 2), (1,)]


def test_names_may_be_listed_where_they_consist_of_digits(tmp_path):
    (tmp_path / "list.txt").write_text("000000000139\n000000000100\n")
    assert read_image_list(tmp_path / "list.txt", ImageList("list.txt", "names")) == ("000000000100", "000000000139")


def test_a_list_may_have_the_mark_that_editors_put_at_its_beginning(tmp_path):
    (tmp_path / "list.txt").write_bytes("\ufeff2\r\n1\r\n".encode())
    assert read_image_list(tmp_path / "list.txt", ImageList("list.txt")) == (1, 2)


def test_a_list_in_another_encoding_is_named_with_the_place_and_the_remedy(tmp_path):
    (tmp_path / "list.txt").write_bytes("one\ngr\u00fcn\n".encode("latin-1"))
    expected = (
        r"list\.txt is not UTF-8 text \(line 2, byte 0xfc\): save it as UTF-8 in an editor; lists are \.npy files, or"
    )
    with pytest.raises(ImageListError, match=expected):
        read_image_list(tmp_path / "list.txt", ImageList("list.txt", "names"))


def test_nothing_is_ever_unpickled(tmp_path):
    np.save(tmp_path / "list.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ImageListError, match=r"list\.npy is not a NumPy file of numbers"):
        read_image_list(tmp_path / "list.npy", ImageList("list.npy"))


@pytest.mark.parametrize(
    ("content", "wanted", "expected"),
    [
        ("1\n1\n", ImageList("list.txt"), "names an image twice"),
        ("1\ntwo\n", ImageList("list.txt"), "the line 'two', expected a position"),
        ("1\n", ImageList("list.txt", column=1), "is text, which holds one step"),
        ("1\n2\n", ImageList("list.txt", sha256="0" * 64, images=2), "is not the published list of 2 images"),
        (
            "1\n",
            ImageList("list.txt", sha256=content_hash([1]), images=2),
            "holds 1 images and is not the published list",
        ),
    ],
)
def test_a_list_that_is_not_what_it_should_be_is_named(tmp_path, content, wanted, expected):
    (tmp_path / "list.txt").write_text(content)
    with pytest.raises(ImageListError, match=expected):
        read_image_list(tmp_path / "list.txt", wanted)


@pytest.mark.parametrize(
    ("content", "wanted", "expected"),
    [
        (np.array([0.5]), ImageList("list.npy"), "expected a row of integers"),
        (np.array([0, 1]), ImageList("list.npy", column=0), "expected a matrix of 0 and 1"),
        (np.array([[0, 2]]), ImageList("list.npy", column=1), "expected a matrix of 0 and 1"),
        (np.array([0, 1]), ImageList("list.npy", "names"), "holds numbers, not names"),
    ],
)
def test_an_array_of_another_kind_is_refused(tmp_path, content, wanted, expected):
    np.save(tmp_path / "list.npy", content)
    with pytest.raises(ImageListError, match=expected):
        read_image_list(tmp_path / "list.npy", wanted)


def test_a_missing_list_is_named_with_where_it_was_published(tmp_path):
    wanted = published_lists("ade20k")[0].steps[0]
    with pytest.raises(ImageListError, match=r"train-0\.npy does not exist: .*https://.*download: true"):
        find_list(tmp_path, wanted)
    (tmp_path / "100-50").mkdir()
    (tmp_path / "100-50" / "train-0.txt").write_text("1\n")
    assert find_list(tmp_path, wanted).name == "train-0.txt"


def test_positions_count_images_sorted_by_name():
    split = make_split(INDEX, STEP, "semantic", "partition", image_list=(ImageList("x"), (0,)), selection="list x")
    assert split["images"] == ["a"] and split["visible"] == [2] and split["selection"] == "list x"
    named = make_split(INDEX, STEP, "semantic", "partition", image_list=(ImageList("x", "names"), ("b", "a")))
    assert named["images"] == ["a", "b"]


@pytest.mark.parametrize(
    ("wanted", "entries", "expected"),
    [
        (ImageList("x"), (7,), "names position 7, but there are 3 images"),
        (ImageList("x"), (), "is empty"),
        (ImageList("x"), (2,), "1 images without a class of the step, 'c' among them"),
        (ImageList("x", total=9), (0,), "counts positions in 9 images, but split 'train' of 'toy' has 3"),
    ],
)
def test_a_list_of_other_data_or_another_order_is_refused(wanted, entries, expected):
    with pytest.raises(SplitError, match=expected):
        make_split(INDEX, STEP, "semantic", "partition", image_list=(wanted, entries))


def test_partition_needs_a_list_and_the_rules_take_none():
    with pytest.raises(SplitError, match="'partition' needs a list"):
        make_split(INDEX, STEP, "semantic", "partition")
    with pytest.raises(SplitError, match="'overlapped' takes no list"):
        make_split(INDEX, STEP, "semantic", "overlapped", image_list=(ImageList("x"), (0,)))


def test_published_lists_are_told_by_content_and_shared_where_scenarios_agree():
    lists = {one.scenario: one.steps for one in published_lists("ade20k")}
    assert list(lists) == ["100-50", "100-10", "50-50", "100-50b", "100-10b", "50-50b"]
    assert lists["100-50"][0] == lists["100-10"][0] != lists["100-50b"][0] == lists["100-10b"][0]
    assert all(sum(step.images for step in steps) == 20196 for steps in lists.values())  # 14 images have no class
    assert parse_identity(lists["50-50"][1].identity) == replace(lists["50-50"][1], file="")
    assert published_lists("shapes") == ()


DATA = os.environ.get("SEGUE_DATA")


@pytest.mark.skipif(not DATA, reason="SEGUE_DATA is not set: published image lists are not at hand")
def test_the_table_is_that_of_the_published_lists():
    content = json.loads((Path(str(DATA)) / "protocol" / "ade_index_lists.json").read_text())
    theirs = {"50-50": "50", "50-50b": "50b"}
    checked = 0
    for lists in published_lists("ade20k"):
        steps = content[theirs.get(lists.scenario, lists.scenario)]["train"]
        assert len(steps) == len(lists.steps)
        for number, wanted in enumerate(lists.steps):
            positions = steps[str(number)]
            assert (len(positions), content_hash(positions)) == (wanted.images, wanted.sha256)
            checked += 1
    assert checked == sum(len(task["train"]) for task in content.values()) == 22
