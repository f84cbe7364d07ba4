"""Images per second and core: Segue's loaders against plain Pillow and torchvision code of the same transforms.

Synthetic photographs of 512 x 683 pixels are stored as JPEG, label maps as PNG. Both sides read the same files, draw the same
crops and return tensors of the same shapes. One process with one thread; worker processes multiply the rate.

    python benchmarks/data_loading.py --json results/data_loading.json
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np
import torch
from paired import compare, describe_machine, parser, write
from PIL import Image
from torchvision.transforms import functional

from model.data.loading.color_jitter import color_jitter
from model.data.loading.mask_loading import MaskItems
from model.data.loading.mask_transforms import LargeScaleJitter, MaskTransform, ShortestEdgeCrop, shortest_edge_size
from model.data.loading.numbered import augmentation_generator
from model.data.loading.pixel_loading import PixelItems
from model.data.loading.pixel_transforms import RandomResizedCrop, ResizeCentreCrop, ScaleCrop, Transform
from model.data.loading.sampling import Draw
from model.data.prepared.dataset import Category, ImageRecord, PreparedDataset, write_dataset, write_records
from model.data.prepared.images import write_png

HEIGHT, WIDTH, CLASSES = 512, 683, 150
BILINEAR, NEAREST = Image.Resampling.BILINEAR, Image.Resampling.NEAREST
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SHORTEST = tuple(range(320, 1281, 64))

Plain = Callable[[Image.Image, Image.Image, np.random.Generator], tuple[Image.Image, Image.Image]]


def make_dataset(folder: Path, images: int) -> PreparedDataset:
    """Smooth scenes with noise and about ten classes in compact regions."""
    records = []
    for number in range(images):
        generator = np.random.default_rng(number)
        smooth = cv2.resize(
            generator.integers(0, 256, (24, 32, 3), np.uint8), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC
        )
        noisy = np.clip(smooth + generator.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)
        chosen = generator.choice(CLASSES, 10, replace=False).astype(np.float32)
        field = cv2.resize(generator.random((6, 8), dtype=np.float32), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
        labels = chosen[np.clip(field * 10, 0, 9).astype(int)].astype(np.uint8)
        file = folder / "photographs" / f"{number:04d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noisy).save(file, quality=90)
        write_png(folder / "semantic/train" / f"{number:04d}.png", labels)
        records.append(ImageRecord(f"{number:04d}", file, HEIGHT, WIDTH))
    write_records(folder, "train", records)
    table = [Category(k, f"class {k}", False, (0, 0, 0)) for k in range(CLASSES)]
    write_dataset(
        folder, name="bench", categories=table, background_id=None, void_id=255, tasks=("semantic",), splits=("train",)
    )
    return PreparedDataset.open(folder)


def lookup() -> np.ndarray:
    """Labels of a step that sees the first hundred classes."""
    table = np.arange(256, dtype=np.uint8)
    table[100:255] = 0
    return table


def plain_random_resized_crop(
    image: Image.Image, labels: Image.Image, generator: np.random.Generator
) -> tuple[Image.Image, Image.Image]:
    """Crop, then resize."""
    top, left, height, width = RandomResizedCrop(512)._window(image.height, image.width, generator)
    box = (left, top, left + width, top + height)
    return image.crop(box).resize((512, 512), BILINEAR), labels.crop(box).resize((512, 512), NEAREST)


def plain_scale_crop(
    image: Image.Image, labels: Image.Image, generator: np.random.Generator
) -> tuple[Image.Image, Image.Image]:
    """Resize all, pad, then crop."""
    factor = generator.uniform(0.5, 2.0)
    width, height = (int(side * factor) for side in image.size)
    image, labels = image.resize((width, height), BILINEAR), labels.resize((width, height), NEAREST)
    rows, columns = max(0, 513 - height), max(0, 513 - width)
    edges = [columns // 2, rows // 2, columns - columns // 2, rows - rows // 2]
    image, labels = functional.pad(image, edges), functional.pad(labels, edges)
    left, top = (int(generator.integers(side - 513 + 1)) for side in image.size)
    box = (left, top, left + 513, top + 513)
    return image.crop(box), labels.crop(box)


def plain_centre_crop(
    image: Image.Image, labels: Image.Image, generator: np.random.Generator
) -> tuple[Image.Image, Image.Image]:
    """Resize all, then crop."""
    image, labels = functional.resize(image, 512), functional.resize(labels, 512, NEAREST)
    return functional.center_crop(image, 512), functional.center_crop(labels, 512)


def plain_shortest_edge(
    image: Image.Image, labels: Image.Image, generator: np.random.Generator
) -> tuple[Image.Image, Image.Image]:
    """Resize all, crop, distort colours, pad."""
    side = SHORTEST[int(generator.integers(len(SHORTEST)))]
    height, width = shortest_edge_size((image.height, image.width), side, 2560)
    image, labels = image.resize((width, height), BILINEAR), labels.resize((width, height), NEAREST)
    rows, columns = min(640, height), min(640, width)
    top, left = int(generator.integers(height - rows + 1)), int(generator.integers(width - columns + 1))
    box = (left, top, left + columns, top + rows)
    image = Image.fromarray(color_jitter(np.asarray(image.crop(box)), generator))
    edges = [0, 0, 640 - columns, 640 - rows]
    return functional.pad(image, edges, fill=128), functional.pad(labels.crop(box), edges, fill=255)


def plain_large_scale(
    image: Image.Image, labels: Image.Image, generator: np.random.Generator
) -> tuple[Image.Image, Image.Image]:
    """Resize all, crop or pad."""
    factor = 1024 * generator.uniform(0.1, 2.0) / max(image.size)
    width, height = (max(1, round(side * factor)) for side in image.size)
    image, labels = image.resize((width, height), BILINEAR), labels.resize((width, height), NEAREST)
    share = generator.random()
    top, left = round(max(0, height - 1024) * share), round(max(0, width - 1024) * share)
    box = (left, top, min(width, left + 1024), min(height, top + 1024))
    image, labels = image.crop(box), labels.crop(box)
    edges = [0, 0, 1024 - image.width, 1024 - image.height]
    return functional.pad(image, edges, fill=128), functional.pad(labels, edges, fill=255)


class PlainLoader:
    """What a released dataset class does: open, convert, transform, to tensors; masks of the classes on request."""

    def __init__(self, dataset: PreparedDataset, transform: Plain, masks: bool) -> None:
        self.dataset, self.transform, self.masks = dataset, transform, masks
        self.records, self.table = dataset.records("train"), lookup()

    def __getitem__(self, draw: Draw) -> tuple[torch.Tensor, ...]:
        record = self.records[draw.item]
        image = Image.open(record.file).convert("RGB")
        labels = Image.open(self.dataset.semantic_file("train", record))
        generator = augmentation_generator(0, draw)
        image, labels = self.transform(image, labels, generator)
        if generator.random() < 0.5:
            image, labels = functional.hflip(image), functional.hflip(labels)
        pixels = functional.normalize(functional.to_tensor(image), MEAN, STD)
        if not self.masks:
            return pixels, torch.from_numpy(self.table[np.array(labels)])
        found = np.array(labels)
        classes = [k for k in np.unique(found) if k != 255]
        return pixels, torch.tensor(classes), torch.stack([torch.from_numpy(found == k) for k in classes])


def load_all(load: Callable[[Draw], object], images: int) -> None:
    """Every image once."""
    for item in range(images):
        load(Draw(item, 0, item))


PIXEL_CASES: dict[str, tuple[Transform, Plain]] = {
    "random-resized-crop 512 (MiB, PLOP, DKD, STAR)": (RandomResizedCrop(512), plain_random_resized_crop),
    "scale-crop 513 (SSUL, BARM)": (ScaleCrop(513), plain_scale_crop),
    "resize-centre-crop 512 (evaluation)": (ResizeCentreCrop(512), plain_centre_crop),
}
MASK_CASES: dict[str, tuple[MaskTransform, Plain]] = {
    "shortest-edge-crop 640 (ADE20K)": (ShortestEdgeCrop(640, SHORTEST, 2560), plain_shortest_edge),
    "large-scale-jitter 1024 (COCO)": (LargeScaleJitter(1024), plain_large_scale),
}


def main() -> None:
    """Measure every transform on both sides and print one line each."""
    made = parser(__doc__, rounds=5)
    made.add_argument("--images", type=int, default=20, help="number of made-up photographs")
    arguments = made.parse_args()
    describe_machine()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        dataset = make_dataset(Path(folder), arguments.images)
        names = [record.id for record in dataset.records("train")]
        seen = {k: k for k in range(CLASSES)}
        for case, (_, plain) in (PIXEL_CASES | MASK_CASES).items():
            ours: PixelItems | MaskItems
            if case in PIXEL_CASES:
                ours = PixelItems(dataset, "train", names, lookup(), PIXEL_CASES[case][0], seed=0)
            else:
                ours = MaskItems(dataset, "train", "semantic", names, seen, MASK_CASES[case][0], seed=0)
            theirs = PlainLoader(dataset, plain, masks=case in MASK_CASES)
            rows.append(
                compare(
                    f"{arguments.images} images, {case}",
                    lambda ours=ours: load_all(ours.__getitem__, arguments.images),
                    lambda theirs=theirs: load_all(theirs.__getitem__, arguments.images),
                    peer_name="plain code",
                    rounds=arguments.rounds,
                )
            )
    write(rows, arguments.json)


if __name__ == "__main__":
    main()
