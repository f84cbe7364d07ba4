"""Scenes of the ``shapes`` dataset: which classes there are, and one annotated picture.

Stuff is recognised by texture, things by form (with many classes by form and pattern). Hue is only a hint: every class has its
own, blurred so much that neighbouring classes overlap. Class frequencies have a long tail; every scene mixes classes at random,
so that images of a later step nearly always show earlier classes, and often later ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np

from model.data.sources.shape_drawing import FORMS, PATTERNS, SCALES, TEXTURES, form_mask, paint, regions, tones

MAX_STUFF = len(TEXTURES) * len(SCALES)
MAX_THINGS = len(FORMS) * len(PATTERNS)
_STUFF_TAIL, _THING_TAIL = 16.0, 4.0  # most frequent to rarest class, as weights of a draw
_STUFF_BLUR, _THING_BLUR = 0.13, 0.08  # standard deviation of the hue, in turns of its circle
_NOISE = 9.0  # standard deviation of pixel noise, in grey levels


@dataclass(frozen=True)
class ShapeClass:
    """One class: a texture at a scale (stuff), or a form with a pattern (thing)."""

    name: str
    isthing: bool
    look: str
    detail: str
    hue: float
    weight: float


def shape_classes(stuff: int, things: int) -> tuple[ShapeClass, ...]:
    """Classes in the order of their labels: stuff and things interleaved, frequencies not sorted.

    Raises:
        ValueError: if more classes are asked for than there are looks.
    """
    if not 1 <= stuff <= MAX_STUFF or not 1 <= things <= MAX_THINGS:
        raise ValueError(f"shapes has 1…{MAX_STUFF} stuff and 1…{MAX_THINGS} thing classes, not {stuff} and {things}")
    textures = [(look, scale) for scale, look in product(_from_middle(tuple(SCALES)), TEXTURES)]
    forms = [(look, pattern) for pattern, look in product(PATTERNS, FORMS)]
    of_stuff = iter(_looks(textures, stuff, False, "" if stuff <= len(TEXTURES) else "{detail} {look}"))
    of_things = iter(_looks(forms, things, True, "" if things <= len(FORMS) else "{detail} {look}"))
    total = stuff + things
    # the thing count after k classes follows k · things / total: both kinds in every stretch of classes
    kinds = [(k + 1) * things // total > k * things // total for k in range(total)]
    return tuple(next(of_things if isthing else of_stuff) for isthing in kinds)


def _looks(looks: list[tuple[str, str]], number: int, isthing: bool, pattern: str) -> Iterator[ShapeClass]:
    stride = _coprime(number, 0.62 if isthing else 0.38)
    for k, (look, detail) in enumerate(looks[:number]):
        rank = k * stride % number
        yield ShapeClass(
            name=pattern.format(look=look, detail=detail) or look,
            isthing=isthing,
            look=look,
            detail=detail,
            hue=(k + 0.5 * isthing) / number,
            weight=(_THING_TAIL if isthing else _STUFF_TAIL) ** (-rank / max(1, number - 1)),
        )


@dataclass(frozen=True)
class Scene:
    """One annotated picture.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        labels: (H, W) uint8, 0 = other, k = class number k − 1.
        instances: (H, W, 2) uint8: thing class (from 1, in label order) and number of the instance, 0 = none.
    """

    image: np.ndarray
    labels: np.ndarray
    instances: np.ndarray


def draw_scene(
    classes: tuple[ShapeClass, ...],
    size: tuple[int, int],
    generator: np.random.Generator,
    required: int | None = None,
) -> Scene:
    """One scene; ``size`` bounds its sides, ``required`` is a class number that it must show."""
    shape = tuple(int(side) for side in 8 * generator.integers(size[0] // 8, size[1] // 8 + 1, size=2))
    image, labels = _draw_stuff(classes, (shape[0], shape[1]), generator, required)
    _draw_other(image, labels, generator)
    instances = np.zeros((*labels.shape, 2), dtype=np.uint8)
    _draw_things(classes, image, labels, instances, generator, required)
    image += generator.normal(0, _NOISE, size=image.shape)
    return Scene(np.rint(image).clip(0, 255).astype(np.uint8), labels, instances)


def _draw_stuff(
    classes: tuple[ShapeClass, ...], shape: tuple[int, int], generator: np.random.Generator, required: int | None
) -> tuple[np.ndarray, np.ndarray]:
    numbers = np.array([k for k, c in enumerate(classes) if not c.isthing])
    weights = np.array([classes[k].weight for k in numbers])
    many = min(len(numbers), int(generator.choice([1, 2, 3], p=[0.25, 0.5, 0.25])))
    chosen = generator.choice(numbers, size=many, replace=False, p=weights / weights.sum())
    if required is not None and not classes[required].isthing and required not in chosen:
        chosen[0] = required
    cells = regions(shape, many, generator)
    image = np.zeros((*shape, 3), dtype=np.float32)
    labels = np.zeros(shape, dtype=np.uint8)
    for cell, number in enumerate(chosen):
        kind = classes[number]
        period = SCALES[kind.detail] * generator.uniform(0.85, 1.15)
        contrast = generator.uniform(0.25, 0.4)
        pair = tones(kind.hue + generator.normal(0, _STUFF_BLUR), contrast, (0.2, 0.55), generator)
        inside = cells == cell
        image[inside] = paint(TEXTURES[kind.look], shape, period, pair, generator)[inside]
        labels[inside] = number + 1
    return image, labels


def _draw_other(image: np.ndarray, labels: np.ndarray, generator: np.random.Generator) -> None:
    """Something that belongs to no class: a flat grey blob in every third scene."""
    if generator.random() > 0.35:
        return
    shape = (labels.shape[0], labels.shape[1])
    centre = generator.uniform(0, 1, size=2) * shape[::-1]
    blob = form_mask("disc", shape, (centre[0], centre[1]), generator.uniform(0.12, 0.22) * min(shape), 0.0)
    image[blob] = generator.uniform(40, 220)
    labels[blob] = 0


def _draw_things(
    classes: tuple[ShapeClass, ...],
    image: np.ndarray,
    labels: np.ndarray,
    instances: np.ndarray,
    generator: np.random.Generator,
    required: int | None,
) -> None:
    numbers = np.array([k for k, c in enumerate(classes) if c.isthing])
    weights = np.array([classes[k].weight for k in numbers])
    many = int(generator.choice([2, 3, 4, 5], p=[0.25, 0.35, 0.25, 0.15]))
    chosen = generator.choice(numbers, size=many, p=weights / weights.sum())
    if required is not None and classes[required].isthing:
        chosen[-1] = required  # drawn last, hence visible
    order = {int(number): position for position, number in enumerate(numbers, start=1)}
    for count, number in enumerate(chosen.tolist(), start=1):
        mask = _place(classes[number].look, instances[..., 1], generator)
        image[mask] = _thing_colours(classes[number], image[mask].mean(axis=0), mask.shape, generator)[mask]
        labels[mask] = number + 1
        instances[mask] = (order[number], count)


def _place(form: str, drawn: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A mask that leaves at least half of every instance drawn before, if six tries find one; else the gentlest."""
    shape = (drawn.shape[0], drawn.shape[1])
    before = np.bincount(drawn.ravel())
    best, least = np.zeros(shape, dtype=bool), np.inf
    for _ in range(6):
        radius = generator.uniform(0.16, 0.27) * min(shape)
        centre = generator.uniform(0.15, 0.85, size=2) * shape[::-1]
        mask = form_mask(form, shape, (centre[0], centre[1]), radius, generator.uniform(-0.4, 0.4))
        covered = np.bincount(drawn[mask], minlength=len(before))[: len(before)] / np.maximum(before, 1)
        worst = covered[1:].max(initial=0.0)
        if worst < least:
            best, least = mask, worst
        if worst <= 0.5:
            break
    return best


def _thing_colours(
    kind: ShapeClass, behind: np.ndarray, shape: tuple[int, ...], generator: np.random.Generator
) -> np.ndarray:
    """Colours that contrast with the mean colour behind, if four tries find some."""
    for _ in range(4):
        pair = tones(kind.hue + generator.normal(0, _THING_BLUR), 0.3, (0.4, 0.85), generator)
        if np.abs(pair[0] - behind).sum() > 120:
            break
    return paint(PATTERNS[kind.detail], (shape[0], shape[1]), 5.0, pair, generator)


def _from_middle(names: tuple[str, ...]) -> list[str]:
    """The middle one first: it is the only one used while there are few classes."""
    middle = len(names) // 2
    return [names[middle], *names[:middle], *names[middle + 1 :]]


def _coprime(number: int, share: float) -> int:
    """A stride near a share of a number whose multiples visit all residues of the number."""
    candidates = [k for k in range(1, max(2, number)) if np.gcd(k, number) == 1]
    return min(candidates, key=lambda k: (abs(k - share * number), k))
