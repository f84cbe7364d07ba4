"""Draw docs/images/imports.svg: which room of the package imports which, in the order of the layers in pyproject.toml.

Rooms stand on a diagonal, the highest layer first. An import leaves its room to the right and enters the imported one from above,
so every arrow points down. An import that would point back, and with it any circle, ends the script with an error.
"""

import argparse
import json
import math
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

import grimp

from model.common.command_line import run
from model.common.fingerprints import PROJECT

COLUMN, ROW, MARGIN, LABEL = 46, 40, 24, 112
INK, QUIET, LINE, BAND, ACCENT = "#1f2933", "#7b8794", "#b8c4d0", "#f4f6f8", (37, 99, 176)
FONT = "font-family=\"-apple-system, 'Segoe UI', 'DejaVu Sans', Helvetica, Arial, sans-serif\""

Edges = Mapping[tuple[str, str], int]
"""(importing room, imported room) to the number of imports between their modules."""


class ImportsError(ValueError):
    """An import that the order of the layers forbids, or a module outside all layers."""


def layers_of(pyproject: Path) -> list[tuple[str, ...]]:
    """The rooms of each layer, the highest layer first, from the contract over the whole package."""
    contracts = tomllib.loads(pyproject.read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    (contract,) = [one for one in contracts if one["type"] == "layers" and "containers" not in one]
    return [tuple(name.strip() for name in layer.split("|")) for layer in contract["layers"]]


def imports(layers: Sequence[Sequence[str]]) -> tuple[Edges, Counter[str]]:
    """Imports between rooms, and the number of modules of each room.

    Raises:
        ImportsError: for a module that belongs to no room.
    """
    rooms = [room for layer in layers for room in layer]
    graph = grimp.build_graph(*sorted({room.split(".")[0] for room in rooms}), cache_dir=None)
    packages = {module for module in graph.modules if (PROJECT / module.replace(".", "/")).is_dir()}
    room_of: dict[str, str] = {}
    for module in graph.modules:
        found = [room for room in rooms if module == room or module.startswith(f"{room}.")]
        if found:
            room_of[module] = max(found, key=len)
        elif module not in packages:
            raise ImportsError(f"{module} belongs to no layer of the contract in pyproject.toml; add it there")
    edges: Counter[tuple[str, str]] = Counter()
    for module, room in room_of.items():
        for imported in graph.find_modules_directly_imported_by(module):
            if imported in room_of and room_of[imported] != room:
                edges[room, room_of[imported]] += 1
    return edges, Counter(room for module, room in room_of.items() if module not in packages)


def check(layers: Sequence[Sequence[str]], edges: Iterable[tuple[str, str]]) -> None:
    """Every import goes to a lower layer, which also rules circles out.

    Raises:
        ImportsError: naming the first import that does not.
    """
    level = {room: number for number, layer in enumerate(layers) for room in layer}
    for importing, imported in edges:
        if level[importing] >= level[imported]:
            raise ImportsError(
                f"{importing} imports {imported}, which is not in a lower layer (pyproject.toml): `make lint` names the lines"
            )


def draw(layers: Sequence[Sequence[str]], edges: Edges, modules: Mapping[str, int]) -> str:
    """The picture as SVG; its metadata hold layers and edges as JSON."""
    place = {room: number for number, room in enumerate(room for layer in layers for room in layer)}
    width = MARGIN + LABEL + COLUMN * len(place) + MARGIN
    height = 84 + ROW * len(place) + MARGIN

    def x(room: str) -> float:
        return MARGIN + LABEL + COLUMN * (place[room] + 0.5)

    def y(room: str) -> float:
        return 84 + ROW * (place[room] + 0.5)

    parts = [f'<rect width="{width}" height="{height}" rx="10" fill="#ffffff"/>']
    parts.append(_text(MARGIN, 36, "Who imports whom", 17, INK, weight=600))
    legend = "along a row: what a room imports · down a column: who imports it · numbers: imports between modules"
    parts.append(_text(MARGIN, 58, legend, 12, QUIET))
    for number, layer in enumerate(layers):
        if number % 2 == 0:
            top, extent = y(layer[0]) - ROW / 2, ROW * len(layer)
            parts.append(
                f'<rect x="{MARGIN / 2:g}" y="{top:g}" width="{width - MARGIN:g}" height="{extent}" rx="6" fill="{BAND}"/>'
            )
    for room in place:  # lines first, so that nothing they meet is crossed out
        targets = [imported for importing, imported in edges if importing == room]
        if targets:
            end = max(map(x, targets))
            parts.append(f'<path d="M{x(room):g} {y(room):g}H{end:g}" stroke="{LINE}" stroke-width="1.5"/>')
        sources = [importing for importing, imported in edges if imported == room]
        if sources:
            start, tip = min(map(y, sources)), y(room) - 9
            parts.append(f'<path d="M{x(room):g} {start:g}V{tip - 5:g}" stroke="{LINE}" stroke-width="1.5"/>')
            parts.append(f'<path d="M{x(room) - 5:g} {tip - 7:g}h10l-5 8z" fill="{INK}"/>')
    most = max(edges.values(), default=1)
    for (importing, imported), count in sorted(edges.items()):
        share = math.log(1 + count) / math.log(1 + most)
        fill = "#" + "".join(f"{round(255 - (255 - tone) * (0.12 + 0.88 * share)):02x}" for tone in ACCENT)
        parts.append(f'<circle cx="{x(imported):g}" cy="{y(importing):g}" r="12" fill="{fill}" stroke="#ffffff"/>')
        tone = "#ffffff" if share > 0.5 else INK
        parts.append(_text(x(imported), y(importing) + 4, str(count), 11.5, tone, anchor="middle", weight=600))
    for room in place:
        parts.append(f'<rect x="{x(room) - 7:g}" y="{y(room) - 7:g}" width="14" height="14" rx="3" fill="{INK}"/>')
        name = room.removeprefix("model.").replace(".", "/")
        parts.append(_text(x(room) - 16, y(room) + 1, name, 13.5, INK, anchor="end", weight=600))
        size = f"{modules[room]} module{'' if modules[room] == 1 else 's'}" if modules[room] else "empty so far"
        parts.append(_text(x(room) - 16, y(room) + 14, size, 10, QUIET, anchor="end"))
    content = {
        "layers": [list(layer) for layer in layers],
        "edges": [[importing, imported, count] for (importing, imported), count in sorted(edges.items())],
    }
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
            f'viewBox="0 0 {width:g} {height:g}" fill="none" {FONT}>',
            "<title>Imports between the rooms of the package</title>",
            f"<metadata>{escape(json.dumps(content))}</metadata>",
            *parts,
            "</svg>\n",
        ]
    )


def _text(x: float, y: float, text: str, size: float, fill: str, anchor: str = "start", weight: int = 400) -> str:
    style = f'font-size="{size:g}" font-weight="{weight}" text-anchor="{anchor}" fill="{fill}"'
    return f'<text x="{x:g}" y="{y:g}" {style}>{escape(text)}</text>'


def main() -> None:
    """Parse the command line and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pyproject", type=Path, default=Path("pyproject.toml"))
    parser.add_argument("--output", type=Path, default=Path("docs/images/imports.svg"))
    arguments = parser.parse_args()
    layers = layers_of(arguments.pyproject)
    edges, modules = imports(layers)
    check(layers, edges)
    arguments.output.write_text(draw(layers, edges, modules), encoding="utf-8")


if __name__ == "__main__":
    run(main)
