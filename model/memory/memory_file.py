"""The file of an exemplar memory: what it holds, and how it is read."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from model.common.json_files import Layout, read_checked

Count = Annotated[int, Field(ge=1)]
Category = Annotated[str, Field(pattern=r"^\d+$")]
"""Keys of JSON are text."""


class _Exemplar(Layout):
    """An image and how much of each labelled class it holds."""

    id: str
    classes: dict[Category, Count]


class _Memory(Layout):
    dataset: str
    task: str
    selection: str
    size: Count
    seed: int
    step: Count
    classes: list[int]
    images: list[_Exemplar]
    counts: dict[Category, Count]
    training_counts: dict[Category, Count]

    @model_validator(mode="after")
    def _counted(self) -> _Memory:
        """The counts are redundant; a list of images that was edited by hand disagrees with them."""
        names = [image.id for image in self.images]
        if again := sorted(name for name, number in Counter(names).items() if number > 1):
            raise ValueError(f"'images' names '{again[0]}' twice")
        found: Counter[str] = Counter()
        for image in self.images:
            found.update(image.classes)
        for category in sorted({*found, *self.counts}, key=int):
            if found[category] != self.counts.get(category, 0):
                raise ValueError(
                    f"'counts' says {self.counts.get(category, 0)} of class {category}, but the images hold "
                    f"{found[category]}: the file was changed by hand"
                )
        return self


def read_memory(path: Path) -> dict[str, Any]:
    """Content of a memory file, as :func:`model.memory.selection.make_memory` makes it.

    Raises:
        FileError: naming the file, the entry that is missing, of another kind or in contradiction, and the remedy.
    """
    return read_checked(path, _Memory)
