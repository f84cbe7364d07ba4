"""From the output of a mask network to panoptic segments, instances and a label map, against the released order of operations.

One image of 512 × 683 pixels, seen at 640 × 854 and padded to 640 × 864, 100 queries, 150 classes; the masks are compact regions,
a given number of queries is sure of its class. The peer is written as the released code of Mask2Former does it: the masks of all
queries are enlarged twice, activated, and then chosen; segments are painted one after the other. Both must give the same map and
the same segments, or the program fails.

    python benchmarks/post_processing.py --json results/post_processing.json
"""

from __future__ import annotations

import sys

import torch
import torch.nn.functional as F
from paired import compare, describe_machine, parser, write
from torch import Tensor

from model.evaluation.evaluators.mask_prediction import ResizedMasks
from model.methods.mask.finetuning import MaskFinetuning

ORIGINAL, SEEN, PADDED = (512, 683), (640, 854), (640, 864)
QUERIES, CLASSES = 100, 150


def made_up_output(sure: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Class logits (Q, K + 1) and mask logits (Q, h, w): smooth fields, each the largest in a region of its own."""
    generator = torch.Generator().manual_seed(seed)
    classes = torch.randn(QUERIES, CLASSES + 1, generator=generator)
    classes[:, -1] += 8.0
    classes[torch.arange(sure), torch.randint(CLASSES, (sure,), generator=generator)] += 16.0
    coarse = torch.randn(1, QUERIES, 5, 7, generator=generator)
    fields = F.interpolate(coarse, size=(PADDED[0] // 4, PADDED[1] // 4), mode="bicubic")[0]
    best = fields[:sure].max(dim=0).values
    return classes, 20 * (fields - best + 0.02)


def released_masks(masks: Tensor) -> Tensor:
    """(Q, H, W) mask logits of all queries."""
    enlarged = F.interpolate(masks[None], size=PADDED, mode="bilinear", align_corners=False)[0]
    inside = enlarged[:, : SEEN[0], : SEEN[1]][None]
    return F.interpolate(inside, size=ORIGINAL, mode="bilinear", align_corners=False)[0]


def released_panoptic(
    classes: Tensor, masks: Tensor, things: Tensor, threshold: float, overlap: float
) -> tuple[Tensor, list[tuple[int, int]]]:
    """Map of segment ids, and id and class of each segment."""
    enlarged = released_masks(masks)
    scores, labels = F.softmax(classes, dim=-1).max(-1)
    enlarged = enlarged.sigmoid()
    keep = labels.ne(CLASSES) & (scores > threshold)
    kept_scores, kept_labels, kept_masks = scores[keep], labels[keep], enlarged[keep]
    weighted = kept_scores.view(-1, 1, 1) * kept_masks
    painted = torch.zeros(ORIGINAL, dtype=torch.int32)
    segments: list[tuple[int, int]] = []
    if len(kept_masks) == 0:
        return painted, segments
    owner = weighted.argmax(0)
    stuff: dict[int, int] = {}
    for k in range(len(kept_labels)):
        label = int(kept_labels[k])
        area, original = (owner == k).sum().item(), (kept_masks[k] >= 0.5).sum().item()
        mask = (owner == k) & (kept_masks[k] >= 0.5)
        if area > 0 and original > 0 and mask.sum().item() > 0:
            if area / original < overlap:
                continue
            if not things[label]:
                if label in stuff:
                    painted[mask] = stuff[label]
                    continue
                stuff[label] = len(segments) + 1
            segments.append((len(segments) + 1, label))
            painted[mask] = len(segments)
    return painted, segments


def released_instances(classes: Tensor, masks: Tensor, limit: int) -> tuple[Tensor, Tensor, Tensor]:
    """Scores, classes and masks of the best pairs of query and class."""
    enlarged = released_masks(masks)
    scores, pairs = F.softmax(classes, dim=-1)[:, :-1].flatten(0, 1).topk(limit, sorted=False)
    labels, queries = pairs % CLASSES, torch.div(pairs, CLASSES, rounding_mode="floor")
    chosen = enlarged[queries]
    binary = (chosen > 0).float()
    quality = (chosen.sigmoid().flatten(1) * binary.flatten(1)).sum(1) / (binary.flatten(1).sum(1) + 1e-6)
    return scores * quality, labels, binary


def main() -> None:
    """Check that both agree, then time them."""
    made = parser(__doc__)
    made.add_argument("--sure", type=int, nargs="+", default=[10, 20], help="queries that are sure of their class")
    made.add_argument("--threads", type=int, default=1)
    arguments = made.parse_args()
    torch.set_num_threads(arguments.threads)
    describe_machine()
    things = torch.arange(CLASSES) < CLASSES * 2 // 3
    method = MaskFinetuning()
    rows = []
    with torch.inference_mode():
        for sure in arguments.sure:
            classes, masks = made_up_output(sure)
            resized = ResizedMasks(masks, PADDED, SEEN, ORIGINAL, "sigmoid")
            released = (things, method.object_threshold, method.overlap_threshold)
            ids, segments = method.panoptic(classes, resized, things)
            other, found = released_panoptic(classes, masks, *released)
            if not torch.equal(ids, other) or [(s.id, s.category) for s in segments] != found:
                sys.exit(f"{sure} sure queries: the two ways found different segments")
            rows.append(
                compare(
                    f"panoptic, {sure} of {QUERIES} queries sure, {len(found)} segments",
                    lambda classes=classes, resized=resized: method.panoptic(classes, resized, things),
                    lambda classes=classes, masks=masks, released=released: released_panoptic(
                        classes, masks, *released
                    ),
                    peer_name="released order",
                    rounds=arguments.rounds,
                )
            )
        limit = method.max_detections
        instances, released_scores = (
            method.instances(classes, resized),
            released_instances(classes, masks, limit)[0].sort(descending=True).values,
        )
        if not torch.allclose(instances.scores, released_scores, atol=1e-6):
            sys.exit("the two ways found different instances")
        rows.append(
            compare(
                f"instances, the best {limit}, {len(torch.unique(instances.classes))} classes",
                lambda: method.instances(classes, resized),
                lambda: released_instances(classes, masks, limit),
                peer_name="released order",
                rounds=arguments.rounds,
            )
        )
    write(rows, arguments.json)


if __name__ == "__main__":
    main()
