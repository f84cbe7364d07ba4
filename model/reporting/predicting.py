"""Predicting photographs into a folder: read, predict, write, draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
from torch.utils.data import DataLoader
from tqdm import tqdm

from model.common.progress_bar import progress_bar
from model.data.prepared.images import one_thread_before_fork
from model.evaluation.prediction.files import PredictionFiles
from model.evaluation.prediction.photographs import Photograph, ReadPhotographs, within
from model.evaluation.prediction.predictor import Predictor
from model.reporting.figures import save_figure
from model.reporting.overlays import overlay_page
from model.reporting.stored_network import StoredNetwork

_Seen = tuple[Photograph, tuple[int, int], np.ndarray]
"""A photograph, the (height, width) of its file, and the image that is predicted, which may be smaller."""


@dataclass
class Predicting:
    """One run over photographs.

    Attributes:
        predictor: network and decision rule.
        stored: names and colours of the classes.
        files: where results go.
        largest: longer side from which on an image is predicted at this one, in pixels.
        batch_size: images of one size that are predicted together.
        overlays: whether pictures are drawn.
    """

    predictor: Predictor
    stored: StoredNetwork
    files: PredictionFiles
    largest: int
    batch_size: int = 1
    overlays: bool = True
    _waiting: list[_Seen] = field(default_factory=list, init=False)

    def run(self, photographs: Sequence[Photograph], workers: int = 0) -> list[str]:
        """Predict all photographs; what was predicted when something goes wrong is complete.

        Args:
            photographs: in any order.
            workers: processes that read images.

        Returns:
            A line for each photograph that could not be read.
        """
        if workers:
            one_thread_before_fork()
        loader: DataLoader[Any] = DataLoader(ReadPhotographs(photographs), batch_size=None, num_workers=workers)
        problems: list[str] = []
        try:
            with progress_bar(len(photographs), "predicting", "image") as bar:
                for index, pixels in loader:
                    if isinstance(pixels, str):
                        problems.append(pixels)
                        bar.update()
                        continue
                    image = np.asarray(pixels)
                    size = image.shape[0], image.shape[1]
                    self._waiting.append((photographs[index], size, within(image, self.largest)))
                    if len(self._waiting) == self.batch_size:
                        self._predict(bar)
                self._predict(bar)
        finally:
            self.files.close()
        return problems

    def _predict(self, bar: tqdm[Any]) -> None:
        """Predict what is waiting, images of one size together."""
        waiting, self._waiting = sorted(self._waiting, key=lambda one: one[2].shape), []
        for _, group in groupby(waiting, key=lambda one: one[2].shape):
            members = list(group)
            predictions = self.predictor.predict([image for _, _, image in members])
            for (photograph, size, image), prediction in zip(members, predictions, strict=True):
                self.files.add(photograph, size, prediction)
                if self.overlays:
                    classes = self.stored.classes
                    page = overlay_page(
                        image,
                        prediction.labels,
                        [category.id for category in classes],
                        {category.id: category.color for category in classes},
                        {category.id: category.name for category in classes},
                        prediction.ids,
                        self.stored.has_background and prediction.ids is None,
                    )
                    picture = self.files.folder / "overlays" / f"{photograph.name}.png"
                    save_figure(page, picture)
                    self.files.keep(picture)
                bar.update()
