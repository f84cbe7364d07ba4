"""Folders of the user that Segue would otherwise write to, or take for its own."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Callable

from bad_case import Case, Section
from bad_workspace import Command, Workspace

Damage = Callable[[Workspace], Command]


def dataset_at(root: str) -> Damage:
    """The photographs are moved to a place below the workspace, and the configuration is told so."""

    def do(workspace: Workspace) -> Command:
        folder = workspace.folder / root
        folder.parent.mkdir(parents=True, exist_ok=True)
        workspace.raw.rename(folder)
        content = workspace.config
        content["datasets"]["photos"]["root"] = str(folder)
        content["experiments"][0] |= {"dataset": "photos", "scenarios": ["2-1"]}
        workspace.configure(content)
        return workspace.snakemake("prepare_all")

    return do


def results_of_somebody(workspace: Workspace) -> Command:
    """The results are to go to a folder that has tables already, which are not Segue's."""
    tables = workspace.folder / "thesis" / "tables"
    tables.mkdir(parents=True)
    (tables / "summary.md").write_text("mine")
    content = workspace.config
    content["results"] = str(tables.parent)
    workspace.configure(content)
    return workspace.show_plan()


def photographs_for_prepared_ones(workspace: Workspace) -> Command:
    """Photographs lie where prepared data would go."""
    folder = workspace.folder / "mine" / "data" / "shapes-micro"
    folder.mkdir(parents=True)
    (workspace.raw / "images" / "one.jpg").rename(folder / "one.jpg")
    content = workspace.config
    content["results"] = str(workspace.folder / "mine")
    workspace.configure(content)
    return workspace.snakemake("prepare_all")


def archive_over_own_file(workspace: Workspace) -> Command:
    """An archive holds another version of a file that the user has put into the dataset's folder."""
    root = workspace.folder / "scenes"
    (root / "archives").mkdir(parents=True)
    (root / "classes.txt").write_text("mine")
    with zipfile.ZipFile(root / "archives" / "scenes.zip", "w") as archive:
        archive.writestr("images/one.jpg", b"theirs")
        archive.writestr("classes.txt", b"theirs")
    row = {"name": "scenes", "kind": "folder", "file": "scenes.zip", "url": "https://example.org/scenes.zip"}
    row |= {"bytes": "", "checksum": "", "part": ".", "into": ".", "nested": "", "gives": "images"}
    table = workspace.folder / "archives.csv"
    with table.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, row)
        writer.writeheader()
        writer.writerow(row)
    return [f"SEGUE_ARCHIVES={table}", "fetch_archive.py", "--archive", "scenes", "--root", str(root)]


FOLDERS = Section(
    "Your own folders",
    (
        Case(
            "A dataset is inside the results folder",
            dataset_at("results/data/mine"),
            "datasets.photos: the raw data of dataset 'photos' (…results/data/mine) is inside …results, which Segue writes "
            "to: keep the two apart, so that nothing of yours is overwritten",
            "Segue never writes where your own files are: the folder of a dataset is only read.",
            "Move the dataset out of the results folder, or name another folder under `results`.",
            prefix="",
        ),
        Case(
            "Photographs are where prepared data would go",
            photographs_for_prepared_ones,
            "datasets.shapes-micro: …mine/data/shapes-micro already exists and was not made by Segue (it has no "
            "made-by-segue.json): move it away, or name another folder under 'results'; nothing in it was changed",
            "A folder made by Segue holds a marker, which is written first. A folder without one is taken to be yours.",
            "Name another folder under `results`, or move yours.",
            prefix="",
        ),
        Case(
            "An archive holds another version of one of your files",
            archive_over_own_file,
            "…scenes/classes.txt already exists and differs from the one in …scenes/archives/scenes.zip: move it away to have "
            "that one unpacked; it was not changed",
            "Unpacking never replaces a file.",
            "Move your file away, or leave `download` out and unpack by hand what you need.",
        ),
        Case(
            "The results folder holds folders of your own",
            results_of_somebody,
            "results: …thesis/tables already exists and was not made by Segue (…thesis has no made-by-segue.json), which "
            "writes to a folder of this name: name another folder under 'results'; nothing in it was changed",
            "The workflow would write among your own files.",
            "Name another folder under `results`.",
        ),
    ),
)
