"""The pictures of the site: images, truth and predictions after each step, as small files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from model.common.files import atomic_file
from model.data.prepared.dataset import PreparedDataset
from model.reporting.class_colors import Color, class_colors
from model.reporting.gallery import BACKGROUND_COLOR, GalleryImage, prediction_picture, truth_picture
from model.reporting.gallery_files import read_images
from model.reporting.segment_shades import shaded
from model.workflow.jobs import Comparison, Run


def comparison_pictures(comparison: Comparison, results: Path, site: Path, folder: str) -> dict[str, Any] | None:
    """Write the pictures of one scenario.

    Args:
        comparison: whose runs of the first seed are shown.
        results: folder that holds the evaluations.
        site: folder of the site.
        folder: for the pictures, below ``site``.

    Returns:
        What the page of pictures needs: steps, methods, legend, and the files of each image; None if there are no pictures.

    Raises:
        ValueError: if a file of predictions is damaged.
    """
    runs = [run for run in comparison.first_seed if run.released is None and _files(run, results)]
    if not runs:
        return None
    shown = {run.method: read_images(_files(run, results)) for run in runs}
    names = [image.name for image in next(iter(shown.values()))]
    if not names:
        return None
    dataset = PreparedDataset.open(results / "data" / comparison.runs[0].dataset)
    present = {label for image in next(iter(shown.values())) for label in np.unique(image.labels).tolist()}
    colors = class_colors(dataset.category_ids, present)
    scenario = comparison.runs[0].scenario
    images = []
    for number, name in enumerate(names):
        first = next(iter(shown.values()))[number]
        start = f"{folder}/{number}"
        files: dict[str, Any] = {"name": name, "image": f"{start}/image.png", "truth": [], "predictions": {}}
        _write(site / files["image"], first.image)
        for t in range(scenario.last + 1):
            step = scenario.step(t)
            truth = truth_picture(first.labels, step.past, step.current, colors, dataset.background_id, dataset.void_id)
            if first.label_segments is not None:
                learnt = np.isin(first.labels, step.seen)
                truth = shaded(truth, first.labels, np.where(learnt, first.label_segments, 0))
            files["truth"].append(f"{start}/truth-{t}.png")
            _write(site / files["truth"][-1], truth)
        for place, run in enumerate(runs):
            image = {one.name: one for one in shown[run.method]}.get(name)
            if image is not None:
                files["predictions"][run.method] = _predictions(run, image, colors, site, f"{start}/{place}")
        images.append(files)
    legend = [
        {"name": category.name, "color": _css(colors[category.id]), "step": step}
        for step, classes in enumerate(scenario.increments)
        for category in dataset.categories
        if category.id in classes and (category.id in present or len(dataset.category_ids) <= 24)
    ]
    nothing = "background" if dataset.background_id is not None else "nothing"
    legend.append({"name": nothing, "color": _css(BACKGROUND_COLOR), "step": None})
    return {"steps": scenario.last + 1, "methods": [run.method for run in runs], "legend": legend, "images": images}


def _files(run: Run, results: Path) -> list[Path]:
    """Predictions of the first protocol after each training; none if one of them is missing."""
    files = [results / e.directory / "predictions.npz" for e in next(iter(run.evaluations.values()))]
    return files if all(file.is_file() for file in files) else []


def _predictions(run: Run, image: GalleryImage, colors: dict[int, Color], site: Path, start: str) -> list[str]:
    written = []
    for t, (prediction, seen) in enumerate(zip(image.predictions, run.known_after, strict=True)):
        drawn = prediction_picture(prediction, seen, colors)
        if image.prediction_segments is not None:
            drawn = shaded(drawn, prediction, image.prediction_segments[t])
        written.append(f"{start}-{t}.png")
        _write(site / written[-1], drawn)
    return written


def _write(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded = cv2.imencode(".png", cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2BGR))[1]
    with atomic_file(path) as stream:
        stream.write(encoded.tobytes())


def _css(color: Sequence[int]) -> str:
    return "#" + "".join(f"{part:02x}" for part in color)
