"""Predict photographs with a trained checkpoint: label maps or COCO results, and overlays with a legend."""

import argparse
import sys
from pathlib import Path

from model.common.command_line import run
from model.common.devices import choose_device, choose_workers
from model.common.provenance import checksum
from model.evaluation.prediction.files import PredictionFiles, check_folder, with_numbers
from model.evaluation.prediction.photographs import PhotographError, find_photographs
from model.evaluation.prediction.predictor import View
from model.reporting.predicting import Predicting
from model.reporting.stored_network import describe, one_file
from model.training.checkpoint import load_checkpoint


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--checkpoint", required=True, help="checkpoint.pt of a step; a pattern that means one file will do"
    )
    parser.add_argument(
        "--images", required=True, nargs="+", help="images, folders, or patterns such as 'photos/*.jpg'"
    )
    parser.add_argument(
        "--out", required=True, help="folder to write: a new one, an empty one, or one of earlier predictions"
    )
    parser.add_argument(
        "--data", type=Path, help="prepared dataset with the class table; default: that of the checkpoint's results"
    )
    parser.add_argument("--task", choices=("semantic", "panoptic", "instance"), help="default: that of the training")
    parser.add_argument("--size", type=int, help="short side of what the network sees; default: that of its evaluation")
    parser.add_argument("--largest", type=int, default=2048, help="images with a longer side are predicted at this one")
    parser.add_argument("--flip", action="store_true", help="average with the mirrored image (semantic)")
    parser.add_argument("--scales", type=float, nargs="+", default=[1.0], help="average over these scales (semantic)")
    parser.add_argument("--no-overlays", action="store_true", help="write no pictures")
    parser.add_argument("--batch-size", type=int, default=1, help="images of one size that are predicted together")
    parser.add_argument("--network", help="network of another package whose code you trust: package.module:Class")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--workers", type=int, help="processes that read images; several by default on a GPU")
    arguments = parser.parse_args()
    for name in ("checkpoint", "out"):
        if not getattr(arguments, name).strip():
            raise ValueError(f"--{name} is empty: make predict CHECKPOINT=checkpoint.pt IMAGES=folder OUT=folder")
    for name in ("size", "largest", "batch_size"):
        if (value := getattr(arguments, name)) is not None and value < 1:
            raise ValueError(f"--{name.replace('_', '-')} {value}: expected a number from 1")
    if not all(0.1 <= scale <= 4 for scale in arguments.scales):
        raise ValueError("--scales: expected numbers from 0.1 to 4, such as 0.75 1 1.25")
    return arguments


def main() -> None:
    """Parse the command line; predict every image, and end with an error if some could not be read."""
    arguments = parse_arguments()
    path, out = one_file(arguments.checkpoint), Path(arguments.out).expanduser()
    photographs = find_photographs(arguments.images)
    numbers = with_numbers(photographs)
    check_folder(out, photographs)
    stored = describe(path, load_checkpoint(path), arguments.data, arguments.task)
    device = choose_device(arguments.device)
    mirrored = (False, True) if arguments.flip else (False,)
    views = tuple(View(scale, turned) for scale in arguments.scales for turned in mirrored)
    predictor = stored.predictor(path, device, arguments.size, views, arguments.network)
    seen_at = "their own size" if predictor.size is None else f"a short side of {predictor.size} pixels"
    print(
        f"{len(photographs)} images, {stored.task}, {len(stored.classes)} classes (from {stored.source}), at {seen_at}"
    )
    options = {"size": predictor.size, "largest": arguments.largest, "scales": arguments.scales, "flip": arguments.flip}
    made_by = {"checkpoint": str(path), "sha256": checksum(path), "step": stored.step.index, "options": options}
    files = PredictionFiles(out, stored.task, stored.classes, stored.nothing, numbers, made_by)
    job = Predicting(predictor, stored, files, arguments.largest, arguments.batch_size, not arguments.no_overlays)
    unread = job.run(photographs, choose_workers(arguments.workers, device))
    print(f"predictions are in {out}")
    if unread:
        for line in unread[1:]:
            print(f"not predicted: {line}", file=sys.stderr)
        count = f"{len(unread)} of {len(photographs)} images could not be read; " if len(unread) > 1 else ""
        raise PhotographError(f"{unread[0]}; {count}all others are predicted")


if __name__ == "__main__":
    run(main)
