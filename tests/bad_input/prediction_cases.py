"""What can be wrong with photographs, a checkpoint and a folder that predictions are asked for with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from bad_case import Case, Section
from bad_workspace import Command, Workspace
from raw_cases import halve

Damage = Callable[[Workspace], Command]


def predict(workspace: Workspace, *options: str, **named: object) -> Command:
    """Predict the photographs with the base checkpoint, unless something else is named."""
    values = {"checkpoint": workspace.base, "images": workspace.raw / "images", "out": workspace.folder / "out"} | named
    return ["predict.py", *(text for name, value in values.items() for text in (f"--{name}", str(value))), *options]


def with_option(*options: str, **named: str) -> Damage:
    """Something is asked for that does not go."""
    return lambda workspace: predict(workspace, *options, **named)


def no_images(workspace: Workspace) -> Command:
    """The folder holds no image."""
    folder = workspace.folder / "texts"
    folder.mkdir()
    (folder / "notes.txt").write_text("no image")
    return predict(workspace, images=folder)


def nowhere(workspace: Workspace) -> Command:
    """There is no such folder."""
    return predict(workspace, images=workspace.folder / "photographs")


def truncated_image(workspace: Workspace) -> Command:
    """One of the photographs was not copied completely."""
    halve(workspace.raw / "images" / "two.jpg")
    return predict(workspace)


def weights_of_elsewhere(workspace: Workspace) -> Command:
    """The checkpoint is a state dict of another project."""
    file: Path = workspace.folder / "resnet.pth"
    torch.save({"conv1.weight": torch.zeros(1)}, file)
    return predict(workspace, checkpoint=file)


def own_folder(workspace: Workspace) -> Command:
    """The folder for the predictions holds the user's files."""
    folder = workspace.folder / "thesis"
    folder.mkdir()
    (folder / "chapter.txt").write_text("mine")
    return predict(workspace, out=folder)


def several_checkpoints(workspace: Workspace) -> Command:
    """A pattern means several files."""
    (workspace.base.parent / "checkpoint2.pt").write_bytes(workspace.base.read_bytes())
    return predict(workspace, checkpoint=workspace.base.parent / "*.pt")


PREDICTIONS = Section(
    "Predictions on photographs",
    (
        Case(
            "There is no such folder of photographs",
            nowhere,
            "…photographs: there is no such file or folder; name images, a folder or a pattern such as 'photos/*.jpg'",
            "`IMAGES` names something that does not exist.",
            "Correct the path; a pattern with `*` needs quotes.",
        ),
        Case(
            "The folder holds no image",
            no_images,
            "…texts holds no image: expected files that end in .jpg, …",
            "Files are taken for images by their ending.",
            "Name the folder of the photographs, or name the files themselves.",
        ),
        Case(
            "A photograph cannot be read",
            truncated_image,
            "…two.jpg cannot be read as an image (…): copy or unpack it again, or take it out of the dataset; all others "
            "are predicted",
            "The file is damaged or no photograph. The predictions of the other photographs are complete.",
            "Copy it again.",
        ),
        Case(
            "Predictions with weights of another project",
            weights_of_elsewhere,
            "…resnet.pth: not a Segue checkpoint (no entry 'format'); convert it first",
            "The file holds weights without what Segue has to know: classes, their order, the network's arguments.",
            "Give a `checkpoint.pt` of Segue.",
        ),
        Case(
            "The folder for predictions holds other files",
            own_folder,
            "…thesis already exists and holds files that are not predictions of Segue (it has no made-by-segue.json): name a "
            "new or an empty folder; nothing in it was changed",
            "Predictions replace those of an earlier run, so they go only into a folder that Segue has made.",
            "Name another folder.",
        ),
        Case(
            "A pattern means several checkpoints",
            several_checkpoints,
            "…*.pt: 2 files match, such as …checkpoint.pt and …checkpoint2.pt; name one of them",
            "A prediction is made with one checkpoint.",
            "Name one of the files.",
        ),
        Case(
            "A per-pixel network is asked for segments",
            with_option("--task", "panoptic"),
            "a network that labels every pixel predicts semantic segmentation, not panoptic: leave the task out",
            "Only mask networks tell one object from another.",
            "Leave `--task` out, or use the checkpoint of a mask network.",
        ),
        Case(
            "No folder for predictions is named",
            with_option(out=""),
            "--out is empty: make predict CHECKPOINT=checkpoint.pt IMAGES=folder OUT=folder",
            "`make predict` needs all three.",
            "Name them.",
        ),
    ),
)
