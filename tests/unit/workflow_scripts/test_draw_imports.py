"""The picture of the imports: up to date, and impossible to draw once an import points back."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

PROJECT = Path(__file__).parents[3]
LAYERS = [("model.top",), ("model.left", "model.right"), ("model.base",)]


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("draw_imports", PROJECT / "workflow_scripts" / "draw_imports.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


script = load_script()


def read(picture: Path) -> tuple[list[tuple[str, ...]], dict[tuple[str, str], int]]:
    """Layers and edges in the metadata of a picture."""
    found = ElementTree.parse(picture).getroot().findtext("{http://www.w3.org/2000/svg}metadata")
    content = json.loads(found or "{}")
    edges = {(importing, imported): count for importing, imported, count in content["edges"]}
    return [tuple(layer) for layer in content["layers"]], edges


def test_the_picture_in_the_documentation_shows_the_imports_of_the_code() -> None:
    """The arrows, not the numbers at them: a new method imports more of the losses without changing the picture's message."""
    layers = script.layers_of(PROJECT / "pyproject.toml")
    edges, _ = script.imports(layers)
    script.check(layers, edges)
    drawn_layers, drawn = read(PROJECT / "docs" / "images" / "imports.svg")
    assert drawn_layers == layers and drawn.keys() == edges.keys(), "run `make docs`"


def test_imports_are_counted_between_rooms_in_their_direction() -> None:
    edges, modules = script.imports(script.layers_of(PROJECT / "pyproject.toml"))
    assert edges["model.methods", "model.losses"] > 10 > edges["model.losses", "model.methods"] == 0
    assert all(importing != imported for importing, imported in edges)
    python_files = [file for file in (PROJECT / "model" / "losses").rglob("*.py") if file.name != "__init__.py"]
    assert modules["model.losses"] == len(python_files)


@pytest.mark.parametrize("edge", [("model.base", "model.top"), ("model.left", "model.right")])
def test_an_import_that_points_back_or_sideways_is_named(edge: tuple[str, str]) -> None:
    script.check(LAYERS, [("model.top", "model.base"), ("model.left", "model.base")])
    with pytest.raises(script.ImportsError, match=f"{edge[0]} imports {edge[1]}, which is not in a lower layer"):
        script.check(LAYERS, [("model.top", "model.left"), edge])


def test_a_module_outside_all_layers_is_named() -> None:
    layers = [layer for layer in script.layers_of(PROJECT / "pyproject.toml") if "model.common" not in layer]
    with pytest.raises(script.ImportsError, match=r"model\..* belongs to no layer"):
        script.imports(layers)


def test_a_picture_can_be_read_back_and_has_an_arrow_for_every_room_that_is_imported(tmp_path: Path) -> None:
    edges = {("model.top", "model.left"): 3, ("model.left", "model.base"): 1, ("model.top", "model.base"): 12}
    picture = tmp_path / "imports.svg"
    picture.write_text(script.draw(LAYERS, edges, {"model.top": 1, "model.left": 2, "model.right": 0, "model.base": 9}))
    assert read(picture) == (LAYERS, edges)
    texts = [node.text for node in ElementTree.parse(picture).iter("{http://www.w3.org/2000/svg}text")]
    assert {"top", "left", "right", "base", "3", "1", "12"} <= set(texts)
