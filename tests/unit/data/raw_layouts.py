"""Small data in the true raw layout of each dataset, and the archives that they are published in."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from model.data.download.archives import Archive
from model.data.prepared.images import write_png

SIZE = (12, 16)


def generator(name: str) -> np.random.Generator:
    return np.random.default_rng([ord(letter) for letter in name])


def write_photograph(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(generator(file.stem).integers(0, 256, (*SIZE, 3), np.uint8)).save(file, quality=95)


def blocks(name: str, labels: tuple[int, ...]) -> np.ndarray:
    """(H, W) uint8: rectangles of the labels, the same for the same name."""
    chosen = generator(name).choice(labels, (3, 4)).astype(np.uint8)
    return np.kron(chosen, np.ones((4, 4), np.uint8))


def write_ade20k(root: Path, images: Mapping[str, int]) -> None:
    """SceneParsing with instance maps: labels 1 (wall), 4 (floor), 8 (bed, instance class 1) and 0."""
    for split, number in images.items():
        for k in range(1, number + 1):
            stem = f"ADE_{'train' if split == 'training' else 'val'}_{k:08d}"
            write_photograph(root / "images" / split / f"{stem}.jpg")
            labels = blocks(stem, (0, 1, 4, 8))
            write_png(root / "annotations" / split / f"{stem}.png", labels)
            bed = labels == 8
            objects = np.stack([bed * 1, bed * 7, bed * 0], axis=-1).astype(np.uint8)
            write_png(root / "annotations_instance" / split / f"{stem}.png", objects)
    rows = [f"{k}\t0.1\t1\t1\tclass {k}" for k in range(1, 151)]
    (root / "objectInfo150.txt").write_text("\n".join(["Idx\tRatio\tTrain\tVal\tName", *rows]) + "\n")
    (root / "sceneCategories.txt").write_text("ADE_train_00000001 airport_terminal\n")


def write_voc(root: Path, train: int, extra: int, val: int) -> None:
    """VOC's own images as palette PNG, more of SBD's as grey PNG and .mat; labels 0, 1, 15, 20 and 255."""
    names = {
        "train": [f"2007_{k:06d}" for k in range(train)],
        "val": [f"2008_{k:06d}" for k in range(val)],
        "extra": [f"2009_{k:06d}" for k in range(extra)],
    }
    for folder in ("SegmentationClass", "SegmentationClassAug", "ImageSets/Segmentation", "sbd/cls"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for split, chosen in names.items():
        for name in chosen:
            write_photograph(root / "JPEGImages" / f"{name}.jpg")
            labels = blocks(name, (0, 1, 15, 20, 255) if split != "extra" else (0, 1, 15, 20))
            Image.fromarray(labels).save(root / "SegmentationClassAug" / f"{name}.png")
            if split == "extra":
                savemat(root / "sbd/cls" / f"{name}.mat", {"GTcls": {"Segmentation": labels, "Boundaries": 0}})
            else:
                drawn = Image.fromarray(labels)
                drawn.putpalette(generator("palette").integers(0, 256, 768, np.uint8).tobytes())
                drawn.save(root / "SegmentationClass" / f"{name}.png")
    for split in ("train", "val"):
        (root / f"ImageSets/Segmentation/{split}.txt").write_text("".join(f"{name}\n" for name in names[split]))


def write_coco(root: Path, images: Mapping[str, int]) -> None:
    """Panoptic maps and JSON of a person, a crowd of persons and grass; one object in COCO's instance annotation."""
    categories = [
        {"id": 1, "name": "person", "isthing": 1, "supercategory": "person"},
        {"id": 193, "name": "grass-merged", "isthing": 0, "supercategory": "plant"},
    ]
    for split, number in images.items():
        listed, panoptic, objects = [], [], []
        for k in range(1, number + 1):
            stem = f"{k:012d}"
            write_photograph(root / split / f"{stem}.jpg")
            ids = np.zeros(SIZE, np.int32)
            ids[2:6, 2:8], ids[2:6, 9:12], ids[8:] = 3226956, 70000, 258
            encoded = np.stack([ids & 255, ids >> 8 & 255, ids >> 16], axis=-1).astype(np.uint8)
            write_png(root / f"panoptic_{split}" / f"{stem}.png", encoded)
            rows = [(3226956, 1, 0, [2, 2, 6, 4]), (70000, 1, 1, [9, 2, 3, 4]), (258, 193, 0, [0, 8, 16, 4])]
            segments = [
                {"id": i, "category_id": c, "iscrowd": d, "area": int((ids == i).sum()), "bbox": b}
                for i, c, d, b in rows
            ]
            listed.append({"id": k, "file_name": f"{stem}.jpg", "height": SIZE[0], "width": SIZE[1]})
            panoptic.append({"image_id": k, "file_name": f"{stem}.png", "segments_info": segments})
            polygon = {"id": k, "image_id": k, "category_id": 1, "iscrowd": 0, "area": 24.5, "bbox": [2, 2, 6, 4]}
            objects.append({**polygon, "segmentation": [[2, 2, 8, 2, 8, 6, 2, 6]]})
        folder = root / "annotations"
        folder.mkdir(parents=True, exist_ok=True)
        content = {"info": {}, "images": listed, "annotations": panoptic, "categories": categories}
        (folder / f"panoptic_{split}.json").write_text(json.dumps(content))
        content = {"images": listed, "annotations": objects, "categories": categories[:1]}
        (folder / f"instances_{split}.json").write_text(json.dumps(content))


def packed(root: Path, archive: Archive) -> bytes:
    """The bytes of an official archive, made from a raw folder."""
    files: dict[str, bytes] = {}
    for path in archive.gives:
        if not (root / path).is_relative_to(root / archive.into):
            continue  # comes out of an archive inside the archive
        for file in [root / path] if (root / path).is_file() else sorted((root / path).rglob("*.*")):
            inside = file.relative_to(root / archive.into)
            files[str(Path(archive.part) / inside)] = file.read_bytes()
    for inner in archive.nested:
        folder = Path(inner).stem
        members = {f"{folder}/{file.name}": file.read_bytes() for file in sorted((root / folder).iterdir())}
        files[inner] = zipped({**members, f"__MACOSX/{folder}/._x.png": b"crumb"})
    return zipped(files) if archive.file.endswith(".zip") else tarred(files, archive.file.endswith("gz"))


def zipped(files: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def tarred(files: Mapping[str, bytes], compressed: bool = False) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz" if compressed else "w") as archive:
        for name, content in files.items():
            record = tarfile.TarInfo(f"./{name}")
            record.size = len(content)
            archive.addfile(record, io.BytesIO(content))
    return stream.getvalue()
