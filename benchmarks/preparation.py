"""Preparing images in the raw layout of ADE20K, PASCAL VOC 2012 and COCO, against the least that any preparation has to do.

The synthetic photographs have the datasets' usual size, the annotations a typical number of segments. The peer is Pillow code
that decodes every photograph and every annotation map once and writes the maps again; it checks, converts and lists nothing.
Segue uses one worker.

    python benchmarks/preparation.py --json results/preparation.json
"""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path

import cv2
import numpy as np
from paired import compare, describe_machine, parser, write
from PIL import Image

from model.data.prepared.images import write_png
from model.data.sources import registry as sources
from model.data.sources.prepare import prepare

SIZES = {"ade20k": (512, 683), "voc": (375, 500), "coco": (480, 640)}
DIFFERENT = 50
"""Photographs that are made up; the others are links to them."""


def drawing(size: tuple[int, int], seed: int, parts: int) -> np.ndarray:
    """(H, W) uint8: compact regions numbered from 0."""
    field = np.random.default_rng(seed).random((6, 8), dtype=np.float32)
    smooth = cv2.resize(field, size[::-1], interpolation=cv2.INTER_CUBIC)
    return np.clip(smooth * parts, 0, parts - 1).astype(np.uint8)


def write_photograph(file: Path, size: tuple[int, int], seed: int) -> None:
    """Smooth colours with noise, as JPEG."""
    generator = np.random.default_rng(seed)
    smooth = cv2.resize(generator.integers(0, 256, (24, 32, 3), np.uint8), size[::-1], interpolation=cv2.INTER_CUBIC)
    pixels = np.clip(smooth + generator.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file, quality=90)


def link(file: Path, original: Path) -> None:
    """Link a file under another name, creating the folder."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.hardlink_to(original)


def write_ade20k(root: Path, images: int) -> None:
    """Nine stuff classes, and four to nine things with an instance map each."""
    for split, number in (("training", images - 10), ("validation", 10)):
        for k in range(number):
            stem, first = f"ADE_{k:08d}", f"ADE_{k % DIFFERENT:08d}"
            if k >= DIFFERENT:
                for part, ending in (("images", "jpg"), ("annotations", "png"), ("annotations_instance", "png")):
                    link(root / part / split / f"{stem}.{ending}", root / part / split / f"{first}.{ending}")
                continue
            write_photograph(root / "images" / split / f"{stem}.jpg", SIZES["ade20k"], k)
            regions = drawing(SIZES["ade20k"], k, 14)
            labels = np.array([1, 2, 3, 4, 5, 6, 7, 8, 8, 9, 10, 11, 13, 13], np.uint8)[regions]
            things = {8: 1, 9: 2, 11: 3, 13: 4}
            classes = np.zeros(256, np.uint8)
            for label, thing in things.items():
                classes[label] = thing
            objects = classes[labels]
            channels = np.stack([objects, np.where(objects > 0, regions + 1, 0), objects * 0], axis=-1).astype(np.uint8)
            write_png(root / "annotations" / split / f"{stem}.png", labels)
            write_png(root / "annotations_instance" / split / f"{stem}.png", channels)
    rows = [f"{k}\t0.1\t1\t1\tclass {k}" for k in range(1, 151)]
    (root / "objectInfo150.txt").write_text("\n".join(["Idx\tRatio\tTrain\tVal\tName", *rows]) + "\n")
    (root / "instance_classes.csv").write_text("instance,label\n1,8\n2,9\n3,11\n4,13\n")


def write_voc(root: Path, images: int) -> None:
    """Three classes, background and void in grey label maps."""
    names = [f"2007_{k:06d}" for k in range(images)]
    for k, name in enumerate(names):
        if k >= DIFFERENT:
            link(root / f"JPEGImages/{name}.jpg", root / f"JPEGImages/{names[k % DIFFERENT]}.jpg")
            link(root / f"SegmentationClassAug/{name}.png", root / f"SegmentationClassAug/{names[k % DIFFERENT]}.png")
            continue
        write_photograph(root / f"JPEGImages/{name}.jpg", SIZES["voc"], k)
        labels = np.array([0, 0, 0, 15, 255, 3, 20], np.uint8)[drawing(SIZES["voc"], k, 7)]
        write_png(root / f"SegmentationClassAug/{name}.png", labels)
    lists = root / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train_aug.txt").write_text("\n".join(names[:-10]))
    (lists / "train.txt").write_text("\n".join(names[:-10]))
    (lists / "val.txt").write_text("\n".join(names[-10:]))


def write_coco(root: Path, images: int) -> None:
    """Eleven segments per image, as many as COCO has on average, seven of them things."""
    ids = np.array([3_226_956, 6_979_964, 3_103_384, 2_831_194, 3_341_352, 70_000, 258, 9_000_001, 9_000_002, 515, 8])
    classes = [1, 1, 1, 2, 3, 44, 62, 184, 187, 199, 200]
    for split, number in (("train2017", images - 10), ("val2017", 10)):
        listed, panoptic = [], []
        for k in range(number):
            stem = f"{k:012d}"
            if k >= DIFFERENT:
                link(root / split / f"{stem}.jpg", root / split / f"{k % DIFFERENT:012d}.jpg")
                link(root / f"panoptic_{split}/{stem}.png", root / f"panoptic_{split}/{k % DIFFERENT:012d}.png")
            else:
                write_photograph(root / split / f"{stem}.jpg", SIZES["coco"], k)
                drawn = ids[drawing(SIZES["coco"], k, len(ids))]
                encoded = np.stack([drawn & 255, drawn >> 8 & 255, drawn >> 16], axis=-1).astype(np.uint8)
                write_png(root / f"panoptic_{split}/{stem}.png", encoded)
            segments = [
                {"id": int(i), "category_id": c, "iscrowd": 0, "area": 27_000, "bbox": [0, 0, 200, 135]}
                for i, c in zip(ids, classes, strict=True)
            ]
            listed.append({"id": k, "file_name": f"{stem}.jpg", "height": 480, "width": 640})
            panoptic.append({"image_id": k, "file_name": f"{stem}.png", "segments_info": segments})
        content = {"images": listed, "annotations": panoptic, "categories": _coco_classes()}
        file = root / "annotations" / f"panoptic_{split}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content))


def _coco_classes() -> list[dict[str, object]]:
    table = sources.categories("coco", {"root": "none"})
    return [{"id": c.id, "name": c.name, "isthing": int(c.isthing)} for c in table]


WRITERS = {"ade20k": write_ade20k, "voc": write_voc, "coco": write_coco}


def copied(root: Path, folder: Path) -> None:
    """The peer: decode every photograph and every annotation map of a raw dataset once, and write the maps again."""
    for file in sorted(root.rglob("*")):
        if file.suffix == ".jpg":
            Image.open(file).load()
        elif file.suffix == ".png":
            content = Image.open(file)
            content.load()
            target = folder / file.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            content.save(target)


def fresh(make: Callable[[Path], object], place: Path) -> Callable[[], None]:
    """A call that makes something in a new folder, which is removed afterwards."""

    def call() -> None:
        with redirect_stderr(io.StringIO()), tempfile.TemporaryDirectory(dir=place) as folder:
            make(Path(folder) / "made")

    return call


def main() -> None:
    """Generate the data of each kind and time both."""
    made = parser(__doc__, rounds=5)
    made.add_argument("--images", type=int, default=60)
    arguments = made.parse_args()
    describe_machine()
    rows = []
    for kind, write_raw in WRITERS.items():
        with tempfile.TemporaryDirectory() as place:
            root = Path(place) / "raw"
            write_raw(root, arguments.images)
            options = {"root": str(root)}
            rows.append(
                compare(
                    f"preparing {arguments.images} images of {kind}",
                    fresh(
                        lambda folder, kind=kind, options=options: prepare(kind, options, folder, name=kind, workers=1),
                        Path(place),
                    ),
                    fresh(lambda folder, root=root: copied(root, folder), Path(place)),
                    peer_name="decoding everything once, and writing the maps again",
                    rounds=arguments.rounds,
                )
            )
    write(rows, arguments.json)


if __name__ == "__main__":
    main()
