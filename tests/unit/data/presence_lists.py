"""Class indices from the lists of classes that every image of VOC and ADE20K has: everything but the pixels."""

import os
from functools import cache
from pathlib import Path

import numpy as np

from model.data.prepared.class_index import ClassIndex

LISTS = {
    ("voc", "train"): ("voc2012_train_aug_classes.txt", 20),
    ("voc", "val"): ("voc2012_val_classes.txt", 20),
    ("ade20k", "train"): ("ade20k_train_classes.txt", 150),
    ("ade20k", "val"): ("ade20k_val_classes.txt", 150),
}


def protocol() -> Path:
    """Folder of the lists."""
    return Path(os.environ["SEGUE_DATA"]) / "protocol"


@cache
def class_index(dataset: str, split: str, first_id: int = 1) -> ClassIndex:
    """One pixel for each class of an image; categories count from ``first_id``."""
    name, classes = LISTS[dataset, split]
    rows = [line.split() for line in (protocol() / name).read_text().splitlines()]
    pixels = np.zeros((len(rows), classes), dtype=np.int64)
    for row, (_, *present) in enumerate(rows):
        pixels[row, np.array(present, dtype=int) - 1] = 1
    ids = tuple(range(first_id, first_id + classes))
    return ClassIndex(dataset, split, tuple(row[0] for row in rows), ids, pixels)
