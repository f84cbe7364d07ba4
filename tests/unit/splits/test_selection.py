import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from model.data.prepared.class_index import ClassIndex, ClassIndexError
from model.scenario import Scenario, Step
from model.splits.selection import SplitError, make_split, select_images, validation_images


def index_of(presence: np.ndarray) -> ClassIndex:
    names = tuple(f"image{row}" for row in range(len(presence)))
    return ClassIndex("toy", "train", names, tuple(range(10, 10 + presence.shape[1])), pixels=9 * presence.astype(int))


TOY = index_of(np.array([[1, 0, 0], [1, 1, 0], [1, 0, 1], [0, 0, 1], [0, 0, 0], [0, 1, 0]]))
STEPS = Scenario("toy", ((10,), (11,), (12,)))


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("overlapped", [[0, 1, 2], [1, 5], [2, 3]]),
        ("disjoint", [[0], [1, 5], [2, 3]]),
        ("sequential", [[0], [1, 5], [2, 3]]),
    ],
)
def test_images_of_every_step(setting: str, expected: list[list[int]]) -> None:
    found = [select_images(TOY, STEPS.step(t), "semantic", setting).tolist() for t in range(3)]
    assert found == expected


def test_only_sequential_keeps_past_labels() -> None:
    step = STEPS.step(1)
    assert make_split(TOY, step, "semantic", "overlapped")["visible"] == [11]
    assert make_split(TOY, step, "semantic", "disjoint")["visible"] == [11]
    assert make_split(TOY, step, "semantic", "sequential")["visible"] == [10, 11]


def test_content_of_the_split_file() -> None:
    assert make_split(TOY, STEPS.step(1), "semantic", "disjoint") == {
        "dataset": "toy",
        "task": "semantic",
        "setting": "disjoint",
        "selection": "",
        "split": "train",
        "rule": "at least one class of the step and no class of a later step",
        "step": 1,
        "past": [10],
        "current": [11],
        "visible": [11],
        "images": ["image1", "image5"],
    }


def test_another_annotation_may_tell_what_an_image_has() -> None:
    segments = (TOY.pixels > 0).astype(int)
    segments[1] = 0  # classes in the label map, but no segment
    index = ClassIndex("toy", "train", TOY.image_ids, TOY.categories, TOY.pixels, segments)
    split = make_split(index, STEPS.step(1), "semantic", "overlapped", presence="panoptic")
    assert split["task"] == "semantic" and split["images"] == ["image5"]


@given(st.integers(0, 2**32 - 1), st.permutations(range(10, 16)))
def test_disjoint_steps_share_no_image_and_overlapped_steps_contain_them(seed: int, order: list[int]) -> None:
    index = index_of(np.random.default_rng(seed).random((60, 6)) < 0.3)
    steps = Scenario("toy", (tuple(order[:2]), tuple(order[2:4]), tuple(order[4:])))
    try:
        disjoint = [set(select_images(index, steps.step(t), "semantic", "disjoint").tolist()) for t in range(3)]
    except SplitError:
        assume(False)
    overlapped = [set(select_images(index, steps.step(t), "semantic", "overlapped").tolist()) for t in range(3)]
    labelled = set(np.flatnonzero(index.presence("semantic").any(axis=1)).tolist())
    assert set.union(*disjoint) == labelled and sum(map(len, disjoint)) == len(labelled)
    assert all(mine <= theirs for mine, theirs in zip(disjoint, overlapped, strict=True))
    assert disjoint[2] == overlapped[2]


def test_an_empty_step_names_itself_and_its_classes() -> None:
    index = index_of(np.array([[1, 1], [1, 1]]))
    with pytest.raises(SplitError, match=r"step 0 of the disjoint setting.*classes of the step: \[10\]"):
        select_images(index, Step(0, (), (10,)), "semantic", "disjoint")
    with pytest.raises(SplitError, match="'mixed' does not exist"):
        select_images(index, Step(0, (), (10,)), "semantic", "mixed")


def test_unknown_classes_and_tasks_are_named() -> None:
    with pytest.raises(ClassIndexError, match=r"no category \[99\]"):
        select_images(TOY, Step(0, (), (10, 99)), "semantic", "overlapped")
    with pytest.raises(ClassIndexError, match="no annotation for task 'panoptic'"):
        select_images(TOY, STEPS.step(0), "panoptic", "overlapped")


def test_validation_rules() -> None:
    step = STEPS.step(1)
    assert validation_images(TOY, step, "semantic") == TOY.image_ids
    assert validation_images(TOY, step, "semantic", "seen") == ("image0", "image1", "image2", "image5")
    assert validation_images(TOY, step, "semantic", "current") == ("image1", "image5")
