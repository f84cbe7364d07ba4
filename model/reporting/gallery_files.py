"""Pictures of a gallery, from the files that evaluations write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from model.common.array_files import ArrayFileError, read_arrays
from model.reporting.gallery import GalleryImage


def read_images(files: Sequence[Path]) -> list[GalleryImage]:
    """The images of all prediction files, with one prediction per file.

    Raises:
        ValueError: if a file is damaged, or lacks an image that the first one has.
    """
    steps = []
    for file in files:
        try:
            steps.append(read_arrays(file))
        except ArrayFileError as error:
            raise ValueError(f"{file} holds no predictions ({error}); delete it to evaluate the step again") from error
    names = [key.removeprefix("image/") for key in steps[0] if key.startswith("image/")]
    for file, step in zip(files, steps, strict=True):
        for name in names:
            if f"prediction/{name}" not in step:
                raise ValueError(f"{file}: has no prediction of image '{name}'; delete it to evaluate the step again")
    return [
        GalleryImage(
            name,
            steps[0][f"image/{name}"],
            steps[0][f"labels/{name}"],
            [step[f"prediction/{name}"] for step in steps],
            steps[0].get(f"label_segments/{name}"),
            [step[f"prediction_segments/{name}"] for step in steps] if f"label_segments/{name}" in steps[0] else None,
        )
        for name in names
    ]
