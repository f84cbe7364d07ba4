"""Panoptic quality, against the released evaluation's way of counting, both from maps in memory.

Maps of 512 × 683 pixels with twelve segments each, as in a validation run on ADE20K; the prediction is the truth, shifted, with
one segment missing and one of another class. The peer counts as panopticapi does: it sorts the pixels of each map for the areas,
and once more their pairs, then matches segments in a loop. (The released evaluation also writes predictions as PNG and reads them
back, which is left out on both sides.) Both must find the same matches for every class, or the program fails.

    python benchmarks/panoptic_quality.py --json results/panoptic_quality.json
"""

from __future__ import annotations

import sys
from collections import Counter

import numpy as np
from paired import compare, describe_machine, parser, write

from model.evaluation.metrics.overlaps import PanopticAccumulator, Segment
from model.evaluation.metrics.panoptic_quality import PanopticCounts, panoptic_counts, panoptic_quality

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


def counted_plainly(truth: list[Map], predictions: list[Map]) -> tuple[Counter[int], Counter[int], Counter[int]]:
    """Matched, false and missed segments per class. There are no crowds and no void in the truth."""
    matched, false, missed = Counter[int](), Counter[int](), Counter[int]()
    for (true_ids, true_segments), (ids, segments) in zip(truth, predictions, strict=True):
        true = {segment.id: segment.category for segment in true_segments}
        found = {segment.id: segment.category for segment in segments}
        true_areas = dict(zip(*(part.tolist() for part in np.unique(true_ids, return_counts=True)), strict=True))
        areas = dict(zip(*(part.tolist() for part in np.unique(ids, return_counts=True)), strict=True))
        pairs = true_ids.astype(np.uint64) * 2**24 + ids.astype(np.uint64)
        keys, pixels = np.unique(pairs, return_counts=True)
        true_hit, hit = set[int](), set[int]()
        for key, shared in zip(keys.tolist(), pixels.tolist(), strict=True):
            i, j = key // 2**24, key % 2**24
            if j not in found or true[i] != found[j]:
                continue
            if shared / (true_areas[i] + areas[j] - shared) > 0.5:
                matched[true[i]] += 1
                true_hit.add(i)
                hit.add(j)
        missed.update(category for identity, category in true.items() if identity not in true_hit)
        false.update(category for identity, category in found.items() if identity not in hit)
    return matched, false, missed


def counted(truth: list[Map], predictions: list[Map]) -> PanopticCounts:
    """Segue's way: every prediction is added as it is made; quality is computed at the end."""
    overlaps = PanopticAccumulator()
    for (true_ids, true_segments), (ids, segments) in zip(truth, predictions, strict=True):
        overlaps.add(true_ids, true_segments, ids, segments)
    counts = panoptic_counts(overlaps.overlaps(), range(CLASSES))
    panoptic_quality(counts)
    return counts


def main() -> None:
    """Check that both agree, then time them."""
    made = parser(__doc__, rounds=7)
    made.add_argument("--images", type=int, default=25)
    made.add_argument("--segments", type=int, default=12)
    arguments = made.parse_args()
    describe_machine()
    generator = np.random.default_rng(0)
    truth = [made_up_map(arguments.segments, generator) for _ in range(arguments.images)]
    predictions = [disturbed(one, generator) for one in truth]
    ours, plain = counted(truth, predictions), counted_plainly(truth, predictions)
    for mine, theirs in zip((ours.tp, ours.fp, ours.fn), plain, strict=True):
        if mine.tolist() != [theirs[category] for category in ours.classes]:
            sys.exit("the two ways found different matches")
    case = f"panoptic quality of {arguments.images} maps of {SIZE[0]} x {SIZE[1]}, {arguments.segments} segments"
    found = compare(
        case,
        lambda: counted(truth, predictions),
        lambda: counted_plainly(truth, predictions),
        peer_name="released way of counting",
        rounds=arguments.rounds,
    )
    write([found], arguments.json)


if __name__ == "__main__":
    main()
