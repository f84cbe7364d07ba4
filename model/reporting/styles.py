"""How a method looks: one colour and one marker, the same in every figure, whatever else is in it.

Variants of a method (``mib@distillation-weight=10``, or ``mib (yours)`` beside ``mib (mine)``) have its colour in several shades,
and a marker each. The colours are Okabe and Ito's, which colour-blind readers can distinguish; markers differ as well, so that a
greyscale print is readable.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

from model.reporting.bounds import LOWER_BOUND, UPPER_BOUND, is_upper_bound, plain_name

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_UPPER, _LOWER = "#000000", "#8C8C8C"

# Methods that papers compare stand near each other, since any seven neighbours differ in colour.
_PLACES = (
    *("mib", "plop", "lwf", "ilt", "finetuning-replay", "lwf-mc", "sdr"),
    *("balconpas", "balconpas-r", "comformer", "eclipse", "simcis", "ssul", "ssul-m"),
    *("star", "star-m", "dkd", "dkd-m", "ewc", "pi", "rw"),
    *("rcil", "ewf", "ewf-plop", "nest", "nest-plop", "barm", "adapter"),
    *("dft", "dft-star", "lgkd", "lgkd-mib", "cil", "finetuning-observed", "simcis-finetuning"),
)


@dataclass(frozen=True)
class Style:
    """How a method looks in every figure."""

    color: str
    marker: str
    line: str


_DASHES = ("-", "--", "-.", ":")
_LIGHTEST = 0.65
"""How far the last shade is on the way to white."""


def method_styles(methods: Iterable[str]) -> dict[str, Style]:
    """One style per method; a single variant of a method looks like the method."""
    names = set(methods)
    variants: dict[str, list[str]] = {}
    for name in sorted(names):
        if plain_name(name) != name:
            variants.setdefault(plain_name(name), []).append(name)
    styles = _plain_styles((names - {name for found in variants.values() for name in found}) | set(variants))
    for plain, found in variants.items():
        taken = int(plain in names)
        for place, name in enumerate(found, start=taken):
            styles[name] = _variant(styles[plain], place, taken + len(found))
    return {name: style for name, style in styles.items() if name in names or name not in variants}


def _variant(style: Style, place: int, number: int) -> Style:
    """The look of one of several variants; the first one looks like the method itself."""
    if place == 0:
        return style
    lighter = _LIGHTEST * place / max(number - 1, 1)
    channels = (int(style.color[i : i + 2], 16) for i in (1, 3, 5))
    color = "#" + "".join(f"{round(value + (255 - value) * lighter):02X}" for value in channels)
    markers = MARKERS[MARKERS.index(style.marker) :] + MARKERS if style.marker in MARKERS else MARKERS
    dashes = _DASHES[_DASHES.index(style.line) :] + _DASHES
    return replace(
        style, color=color, marker=markers[place % len(MARKERS)], line=dashes[place // len(MARKERS) % len(_DASHES)]
    )


def _plain_styles(methods: Iterable[str]) -> dict[str, Style]:
    """Styles of methods that are not variants of each other.

    The upper bound is black and dashed, the lower bound grey and dotted. A method that Segue does not know gets its look from its
    name; should two of them, or one and a known method, fall on the same look, the later one in the alphabet takes the next.
    """
    styles = {UPPER_BOUND: Style(_UPPER, "_", "--"), LOWER_BOUND: Style(_LOWER, ".", ":")}
    others = set(methods) - set(styles)
    taken = {_PLACES.index(name): name for name in others if name in _PLACES}
    looks = len(COLORS) * len(MARKERS)
    for name in sorted(others - set(_PLACES)):
        if is_upper_bound(name):
            styles[name] = Style(_UPPER, "|", "--")
            continue
        place = int(hashlib.sha256(name.encode()).hexdigest(), 16) % looks
        lap = 0
        while place + lap * looks in taken:
            place = (place + 1) % looks
            lap += all(p + lap * looks in taken for p in range(looks))
        taken[place + lap * looks] = name
    for place, name in taken.items():
        row = place % looks // len(COLORS)
        color, marker = COLORS[place % len(COLORS)], MARKERS[(place + row) % len(MARKERS)]
        styles[name] = Style(color, marker, "-" if place < looks else "-.")
    return styles
