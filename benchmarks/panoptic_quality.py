"""Panoptic quality counted while predicting, against predictions that are written as PNG and read back.

200 pairs of maps of 512 × 683 pixels with twelve segments each, as in a validation run on ADE20K. Ours adds every
predicted map to the accumulator as it is made, the true map being in memory, and evaluates at the end. The baseline is that of
programs that evaluate folders: every prediction is encoded as an RGB PNG (id = R + 256·G + 65536·B) and written, then both
maps are read and decoded, and pairs of ids are counted by sorting. Both must find the same pairs and pixels, or the program
fails.

    python benchmarks/panoptic_quality.py --json results/panoptic_quality.json
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from model.evaluation.metrics.overlaps import PanopticAccumulator, Segment
from model.evaluation.metrics.panoptic_quality import panoptic_counts, panoptic_quality

SIZE = (512, 683)
CLASSES = 150
Map = tuple[np.ndarray, list[Segment]]


def made_up_map(segments: int, generator: np.random.Generator) -> Map:
    """Blobs around random centres, with ids as large as those of COCO."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float32)
    centres = generator.random((segments, 2)) * SIZE
    distance = np.stack([(rows - y) ** 2 + (columns - x) ** 2 for y, x in centres])
    distance *= generator.uniform(0.5, 2.0, segments).astype(np.float32)[:, None, None]
    numbers = generator.choice(2**24 - 1, segments, replace=False) + 1
    ids = numbers[distance.argmin(axis=0)].astype(np.int32)
    found = np.unique(ids).tolist()
    return ids, [Segment(number, int(generator.integers(CLASSES))) for number in found]


def disturbed(truth: Map, generator: np.random.Generator) -> Map:
    """A prediction: the truth, shifted, with one segment missing and one of another class."""
    ids = np.roll(truth[0], tuple(generator.integers(-20, 21, 2)), axis=(0, 1))
    missing = truth[1][int(generator.integers(len(truth[1])))].id
    ids = np.where(ids == missing, 0, ids).astype(np.int32)
    kept = [Segment(s.id, s.category) for s in truth[1] if s.id != missing and (ids == s.id).any()]
    if kept:
        kept[0] = Segment(kept[0].id, (kept[0].category + 1) % CLASSES)
    return ids, kept


def encoded(ids: np.ndarray) -> np.ndarray:
    """Ids as the BGR image that OpenCV writes."""
    return np.stack([ids >> 16 & 255, ids >> 8 & 255, ids & 255], axis=-1).astype(np.uint8)


def decoded(file: Path) -> np.ndarray:
    """Ids of a PNG."""
    image = cv2.imread(str(file), cv2.IMREAD_COLOR).astype(np.int64)
    return image[..., 2] + 256 * image[..., 1] + 65536 * image[..., 0]


def through_files(truth: list[Path], predictions: list[Map], folder: Path) -> list[dict[tuple[int, int], int]]:
    """Write every prediction, then read both maps of every image and count pairs."""
    for number, (ids, _) in enumerate(predictions):
        cv2.imwrite(str(folder / f"{number}.png"), encoded(ids))
    counted = []
    for number, file in enumerate(truth):
        pairs = decoded(file) * 2**32 + decoded(folder / f"{number}.png")
        keys, pixels = np.unique(pairs, return_counts=True)
        counted.append({(k >> 32, k & 0xFFFFFFFF): n for k, n in zip(keys.tolist(), pixels.tolist(), strict=True)})
    return counted


def while_predicting(truth: list[Map], predictions: list[Map]) -> PanopticAccumulator:
    """Add every prediction as it is made."""
    counts = PanopticAccumulator()
    for (true_ids, true_segments), (ids, segments) in zip(truth, predictions, strict=True):
        counts.add(true_ids, true_segments, ids, segments)
    return counts


def check(
    accumulator: PanopticAccumulator,
    truth: list[Map],
    predictions: list[Map],
    counted: list[dict[tuple[int, int], int]],
) -> None:
    """Stop if the two ways found different pairs or pixels."""
    overlaps = accumulator.overlaps()
    true_ids = [segment.id for _, segments in truth for segment in segments]
    predicted_ids = [segment.id for _, segments in predictions for segment in segments]
    ours: list[dict[tuple[int, int], int]] = [{} for _ in truth]
    for row in overlaps.overlap:
        image = int(overlaps.prediction["image"][row["prediction"]])
        true = true_ids[row["truth"]] if row["truth"] >= 0 else 0
        ours[image][true, predicted_ids[row["prediction"]]] = int(row["pixels"])
    for image, (mine, other) in enumerate(zip(ours, counted, strict=True)):
        if mine != {pair: pixels for pair, pixels in other.items() if pair[1]}:
            sys.exit(f"image {image}: the two ways found different pairs of segments")


def main() -> None:
    """Parse the command line and measure both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the measurement to this file")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--segments", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=3, help="the fastest counts")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    generator = np.random.default_rng(0)
    truth = [made_up_map(arguments.segments, generator) for _ in range(arguments.images)]
    predictions = [disturbed(one, generator) for one in truth]
    ours, whole, baseline = [], [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "predicted").mkdir()
        files = [folder / f"{number}.png" for number in range(len(truth))]
        for file, (ids, _) in zip(files, truth, strict=True):
            cv2.imwrite(str(file), encoded(ids))
        for _ in range(arguments.repeats):
            start = time.process_time()
            accumulator = while_predicting(truth, predictions)
            ours.append(time.process_time() - start)
            start = time.process_time()
            panoptic_quality(panoptic_counts(accumulator.overlaps(), range(CLASSES)))
            whole.append(time.process_time() - start)
            start = time.process_time()
            counted = through_files(files, predictions, folder / "predicted")
            baseline.append(time.process_time() - start)
    check(accumulator, truth, predictions, counted)
    images = arguments.images
    case = f"{images} maps of {SIZE[0]} x {SIZE[1]}, {arguments.segments} segments"
    row = {"case": case, "ours": min(ours), "baseline": min(baseline), "ratio": min(baseline) / min(ours)}
    print(
        f"{case}: {1e3 * row['ours'] / images:.2f} ms a map while predicting, {1e3 * row['baseline'] / images:.1f} ms through "
        f"files ({row['ratio']:.1f} times as long), of CPU time; evaluating all maps {1e3 * min(whole):.0f} ms"
    )
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps([row], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
