import numpy as np
import pytest

from model.data.prepared.dataset import PreparedDataset
from model.data.prepared.segments import READERS, Segments, disjoint_segments


def drawn_masks(segments: Segments) -> np.ndarray:
    return segments.targets()[1]


def test_panoptic_segments_are_those_of_the_annotation(shapes: PreparedDataset) -> None:
    read = READERS["panoptic"](shapes, "val")
    visible = {category: 10 + category for category in shapes.category_ids if category % 2}
    for annotation in shapes.panoptic_annotations("val")["annotations"]:
        record = shapes.record("val", annotation["image_id"])
        ids = shapes.read_panoptic("val", record)
        expected = [s for s in annotation["segments_info"] if s["category_id"] in visible]
        labels, masks = read(record, visible).targets()
        assert labels.tolist() == [10 + s["category_id"] for s in expected]
        assert all((mask == (ids == s["id"])).all() for mask, s in zip(masks, expected, strict=True))


def test_instances_are_the_annotated_objects(shapes: PreparedDataset) -> None:
    read = READERS["instance"](shapes, "val")
    things = {c.id: place for place, c in enumerate(c for c in shapes.categories if c.isthing)}
    annotations = shapes.instance_annotations("val")["annotations"]
    for record in shapes.records("val"):
        own = [one for one in annotations if one["image_id"] == record.id]
        labels, masks = read(record, things).targets()
        assert labels.tolist() == [things[one["category_id"]] for one in own]
        assert [int(mask.sum()) for mask in masks] == [one["area"] for one in own]


def test_semantic_segments_are_the_visible_classes(shapes: PreparedDataset) -> None:
    read = READERS["semantic"](shapes, "val")
    for record in shapes.records("val"):
        raw = shapes.read_semantic("val", record)
        labels, masks = read(record, {3: 0, 1: 1}).targets()
        assert labels.tolist() == [{3: 0, 1: 1}[c] for c in (1, 3) if (raw == c).any()]
        for label, mask in zip(labels, masks, strict=True):
            assert (mask == (raw == (3, 1)[label])).all()


def test_objects_may_overlap() -> None:
    layers = np.zeros((2, 4, 6), np.int32)
    layers[0, :, :4], layers[1, :, 2:] = 1, 2
    segments = Segments(layers, np.array([5, 8]), np.array([0, 1]))
    masks = drawn_masks(segments)
    assert (masks.sum(axis=0)[:, 2:4] == 2).all() and masks.sum() == 32
    assert segments.class_map()[0].tolist() == [5, 5, 8, 8, 8, 8]


@pytest.mark.parametrize("keep_empty", [True, False])
def test_what_a_crop_cuts_away_stays_a_target_only_where_it_is_to(keep_empty: bool) -> None:
    ids = np.repeat([[7, 9]], 4, axis=1)
    segments = disjoint_segments(ids, [9, 7], [0, 1], keep_empty)
    labels, masks = segments.drawn(segments.layers[:, :, :2]).targets()
    assert labels.tolist() == ([0, 1] if keep_empty else [1])
    assert masks.reshape(len(labels), -1).sum(axis=1).tolist() == ([0, 2] if keep_empty else [2])


def test_an_image_may_show_nothing() -> None:
    labels, masks = disjoint_segments(np.ones((3, 5), np.uint8), [], []).targets()
    assert labels.shape == (0,) and masks.shape == (0, 3, 5) and labels.dtype == np.int64
