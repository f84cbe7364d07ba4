"""Time and memory of preparing 1,000 images in the raw layout of ADE20K, PASCAL VOC 2012 and COCO, projected to all images.

The synthetic photographs have the datasets' usual size, the annotations a typical number of segments. The projection scales the
measured time to the official numbers of images. Memory is the largest resident set of the preparing process and of its largest
worker.

    python benchmarks/preparation.py --workers 2 --json results/preparation.json
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from model.data.prepared.images import write_png
from model.data.sources import registry as sources
from model.data.sources.prepare import prepare

OFFICIAL = {"ade20k": 22_210, "voc": 12_031, "coco": 123_287}
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


def measure(kind: str, root: Path, folder: Path, workers: int) -> None:
    """Prepare, and print the measurements as JSON; runs in a process of its own, so that the memory is that of preparation."""
    start = time.perf_counter()
    prepare(kind, {"root": str(root)}, folder, name=kind, workers=workers)
    seconds = time.perf_counter() - start
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    processor = sum(one.ru_utime + one.ru_stime for one in used)
    memory = [one.ru_maxrss / 1024 for one in used]
    print(json.dumps({"seconds": seconds, "processor": processor, "memory": memory}))


def main() -> None:
    """Generate the data of each kind, prepare them, and print one line each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path, help="file to write the results to")
    parser.add_argument("--measure", nargs=3, metavar=("KIND", "ROOT", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        kind, root, folder = arguments.measure
        measure(kind, Path(root), Path(folder), arguments.workers)
        return
    lines = []
    for kind, write in WRITERS.items():
        with tempfile.TemporaryDirectory() as place:
            root, folder = Path(place) / "raw", Path(place) / "prepared"
            write(root, arguments.images)
            command = [sys.executable, __file__, "--workers", str(arguments.workers), "--measure", kind, root, folder]
            done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
            figures = json.loads(done.stdout)
        factor = 1000 / arguments.images
        seconds, processor = figures["seconds"] * factor, figures["processor"] * factor
        minutes = processor / arguments.workers * OFFICIAL[kind] / 1000 / 60
        lines.append({"case": kind, "seconds": seconds, "processor": processor, "memory": figures["memory"]})
        print(
            f"{kind:8s} 1,000 images: {seconds:.0f} s, {processor:.0f} s of CPU time; memory {figures['memory'][0]:.0f} "
            f"and {figures['memory'][1]:.0f} MiB; all {OFFICIAL[kind]:,}: {minutes:.1f} min on {arguments.workers} idle cores",
            flush=True,
        )
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(lines, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
