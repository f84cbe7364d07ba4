"""Two tiny datasets of drawn photographs: a plain folder with instances and saliency, and COCO's panoptic layout."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 24, 32
CLASSES = ("sky", "grass", "ball", "box")
NAMES = {"train": ("one", "two", "three"), "val": ("four",)}


def _scene(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels 0…3 and instance numbers of an image: sky over grass, a ball and a box."""
    labels = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    labels[HEIGHT // 2 :] = 1
    instances = np.zeros_like(labels)
    for label, left in ((2, 2 + number), (3, 18 + number)):
        labels[10:16, left : left + 6] = label
        instances[10:16, left : left + 6] = label - 1
    return labels, instances


def _photograph(labels: np.ndarray, number: int) -> Image.Image:
    noise = np.random.default_rng(number).integers(0, 40, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    return Image.fromarray(noise + (labels * 50)[..., None])


def write_photos(root: Path) -> None:
    """The layout of ``kind: folder``."""
    for part in ("images", "labels", "instances", "saliency"):
        (root / part).mkdir(parents=True)
    (root / "classes.txt").write_text("\n".join(CLASSES))
    for split, names in NAMES.items():
        (root / f"{split}.txt").write_text("\n".join(names))
        for number, name in enumerate(names):
            labels, instances = _scene(number)
            _photograph(labels, number).save(root / "images" / f"{name}.jpg", quality=95)
            Image.fromarray(labels).save(root / "labels" / f"{name}.png")
            Image.fromarray(instances).save(root / "instances" / f"{name}.png")
            Image.fromarray((instances > 0).astype(np.uint8) * 255).save(root / "saliency" / f"{name}.png")


def write_panoptic_photos(root: Path) -> None:
    """COCO's panoptic layout; every class of an image is one segment."""
    (root / "annotations").mkdir(parents=True)
    categories = [{"id": k + 1, "name": name, "isthing": int(k > 1)} for k, name in enumerate(CLASSES)]
    for split, names in (("some", NAMES["train"]), ("others", NAMES["val"])):
        (root / split).mkdir()
        (root / f"panoptic_{split}").mkdir()
        images, annotations = [], []
        for number, name in enumerate(names):
            labels, _ = _scene(number)
            _photograph(labels, number).save(root / split / f"{name}.jpg", quality=95)
            Image.fromarray(np.stack([labels + 1] + 2 * [np.zeros_like(labels)], axis=-1)).save(
                root / f"panoptic_{split}" / f"{name}.png"
            )
            images.append({"id": number, "file_name": f"{name}.jpg", "height": HEIGHT, "width": WIDTH})
            segments = [
                {
                    "id": k + 1,
                    "category_id": k + 1,
                    "area": int((labels == k).sum()),
                    "bbox": [0, 0, 1, 1],
                    "iscrowd": 0,
                }
                for k in range(len(CLASSES))
            ]
            annotations.append({"image_id": number, "file_name": f"{name}.png", "segments_info": segments})
        content = {"images": images, "annotations": annotations, "categories": categories}
        (root / "annotations" / f"panoptic_{split}.json").write_text(json.dumps(content))
