"""``export_checkpoint.py`` writes each format with a card that says what the network knows."""

from __future__ import annotations

import contextlib
import io
import runpy
import sys
from pathlib import Path

import pytest
import torch
from stored_networks import PROJECT, prepared_shapes, stored_network

from model.interop.safetensors_files import read_safetensors
from model.training.checkpoint import load_checkpoint


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "results"
    classes = prepared_shapes(folder).classes
    stored_network(folder / "pixel", "semantic", classes("semantic"), method="mib")
    stored_network(folder / "panoptic", "panoptic", classes("panoptic"), family="mask", method="balconpas-r")
    return folder


def export(checkpoint: Path, out: Path, *options: str) -> tuple[int, str]:
    output, before = io.StringIO(), sys.argv
    sys.argv = ["export_checkpoint.py", "--checkpoint", str(checkpoint), "--out", str(out), *options]
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            runpy.run_path(str(PROJECT / "workflow_scripts/export_checkpoint.py"), run_name="__main__")
        return 0, output.getvalue()
    except SystemExit as end:
        return int(end.code or 0), output.getvalue()
    finally:
        sys.argv = before


def test_safetensors_and_a_card_that_lists_the_classes_in_order(results: Path, tmp_path: Path) -> None:
    checkpoint = results / "pixel/checkpoint.pt"
    status, said = export(checkpoint, tmp_path / "out", "--licence", "cc-by-4.0")
    assert status == 0, said
    before, after = load_checkpoint(checkpoint), read_safetensors(tmp_path / "out/model.safetensors")
    assert before.classes == after.classes and before.spec == after.spec
    assert all(torch.equal(value, after.network[key]) for key, value in before.network.items())
    card = (tmp_path / "out/README.md").read_text()
    assert card.startswith('---\nlicense: "cc-by-4.0"\n')
    places = [card.index(f"| {place} | {category} |") for place, category in enumerate(before.classes, start=1)]
    assert places == sorted(places)
    assert "mib" in card and "4 classes before, 4 new" in card and "overlapped" in card


def test_official_names_are_those_of_the_release_that_fits(results: Path, tmp_path: Path) -> None:
    status, said = export(results / "panoptic/checkpoint.pt", tmp_path / "out", "--format", "official")
    assert status == 0, said
    state = torch.load(tmp_path / "out/balconpas.pth", weights_only=True)["model"]
    assert "sem_seg_head.predictor.class_embeds.1.weight" in state
    status, said = export(results / "pixel/checkpoint.pt", tmp_path / "mib", "--format", "mib")
    assert status == 0 and "were not compared with a released file" in said


@pytest.mark.parametrize(
    ("name", "form", "said"),
    [
        ("pixel", "transformers", "error: transformers has no network such as 'deeplabv3'"),
        ("panoptic", "transformers", "error: network.norm is 'gn', which transformers' Mask2Former cannot be"),
        ("pixel", "ssul", "error: SSUL does not have a network such as this 'deeplabv3'"),
    ],
)
def test_what_cannot_be_exported_says_why_and_writes_nothing(
    results: Path, tmp_path: Path, name: str, form: str, said: str
) -> None:
    status, text = export(results / name / "checkpoint.pt", tmp_path / "out", "--format", form)
    assert status == 1 and text.splitlines()[-1].startswith(said), text
    assert not (tmp_path / "out").exists()


def test_a_folder_of_somebody_else_is_refused(results: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    status, said = export(results / "pixel/checkpoint.pt", tmp_path)
    assert status == 1 and "holds files that are not an export of Segue" in said
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]
