"""What can be wrong with photographs, a checkpoint and a folder that predictions are asked for with."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from bad_case import Case, Section
from bad_workspace import Command, Workspace
from file_cases import Code, hostile
from raw_cases import halve
from safetensors.torch import save_file

from model.common.fingerprints import canonical_json
from model.interop.official_names import official_state
from model.interop.safetensors_files import write_safetensors
from model.training.checkpoint import load_checkpoint

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


def imported(form: str, damage: Callable[[Path], object], name: str = "downloaded.pth", **changes: object) -> Damage:
    """The base checkpoint is imported from a file elsewhere, after something happened to it."""

    def do(workspace: Workspace) -> Command:
        file = workspace.folder / name
        if form == "segue":
            shutil.copy(workspace.base, file)
        elif form == "safetensors":
            write_safetensors(file, load_checkpoint(workspace.base))
        else:
            torch.save({"model_state": official_state(load_checkpoint(workspace.base), form)}, file)
        told = hashlib.sha256(file.read_bytes()).hexdigest()
        damage(file)
        known = (
            told if "sha256" in changes else hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else told
        )
        spec = json.loads(canonical_json(workspace.training(0).spec))
        spec["step"] |= changes.get("step", {})  # type: ignore[operator]
        classes = len(spec["step"]["current"])
        spec["imported"] = {"format": form, "sha256": known, "classes_per_step": [classes]}
        folder = workspace.folder / "imported"
        written = [text for name in ("checkpoint", "record", "curves") for text in (f"--{name}", str(folder / name))]
        return ["import_checkpoint.py", "--spec", json.dumps(spec), "--file", str(file), *written]

    return do


def flip_first_byte(file: Path) -> None:
    """The download went wrong."""
    content = bytearray(file.read_bytes())
    content[0] ^= 1
    file.write_bytes(content)


def weights_of_another_network(file: Path) -> None:
    """Weights whose names fit nothing."""
    torch.save({"layer.weight": torch.zeros(2, 2)}, file)


def without_a_classifier(file: Path) -> None:
    """Some weights were left out."""
    state = torch.load(file, weights_only=True)["model_state"]
    torch.save({key: value for key, value in state.items() if not key.startswith("cls.")}, file)


def hostile_arrays(file: Path) -> None:
    """A pickle of arrays that tries to run a command when it is opened."""
    file.write_bytes(pickle.dumps({"model": Code(file.with_name("marker"))}))


def tensors_alone(file: Path) -> None:
    """A safetensors file of another program."""
    save_file({"layer.weight": torch.zeros(2, 2)}, file)


IMPORTS = Section(
    "Files in the place of trainings",
    (
        Case(
            "The file of base_checkpoint or released is not there",
            imported("segue", Path.unlink),
            "…downloaded.pth: there is no such file; put it there, or correct 'file' in the configuration",
            "`base_checkpoint` or an entry of `released` names a file that does not exist.",
            "Download it, or correct the path.",
        ),
        Case(
            "An imported file is another one than described",
            imported("segue", flip_first_byte, sha256="of the original"),
            "…downloaded.pth: its SHA-256 is …, but the configuration says …: it is another file, or damaged; download it "
            "again, or correct 'sha256'",
            "The content decides what a file is, not its name.",
            "Download it again; compare with `sha256sum`.",
        ),
        Case(
            "An imported checkpoint has its classes in another order",
            imported("segue", lambda file: None, step={"current": [1, 0, 2, 3]}),
            "…downloaded.pth: its classes are in another order: place 0 holds class 0 instead of 1; give the checkpoint of the "
            "same scenario, order and recipe, or train it again",
            "The checkpoint was trained on another class order than that of the scenario.",
            "Name the scenario with the order of the file, or give another file.",
        ),
        Case(
            "Released weights do not fit the network",
            imported("mib", weights_of_another_network),
            "…downloaded.pth: the weights do not fit the network (…missing: …; 1 not in the network: layer.weight); check "
            "backbone, head and classes of the recipe",
            "The recipe describes another network than the one that was released.",
            "Choose the recipe, the scenario and the step of the release.",
        ),
        Case(
            "Some of the released weights are missing",
            imported("mib", without_a_classifier),
            "…downloaded.pth: the weights do not fit the network (2 missing: cls.0.weight, cls.0.bias); check backbone, head and "
            "classes of the recipe",
            "The file does not hold the whole network.",
            "Use the file of the release; if it is that file, choose its recipe, scenario and step.",
        ),
        Case(
            "Released weights are of another number of classes",
            imported("mib", lambda file: None, step={"current": [0, 1, 2]}),
            "…downloaded.pth: the weights do not fit the network (… of another shape: cls.0.weight is (…), expected (…), …); "
            "check backbone, head and classes of the recipe",
            "The scenario or the step has another number of classes than the one that was released.",
            "Choose the scenario and the step of the release.",
        ),
        Case(
            "Released weights were not copied completely",
            imported("mib", halve),
            "…downloaded.pth: cannot be read as weights (…); …",
            "The file is damaged: its SHA-256 was taken of what there is, not of what was published.",
            "Download it again, and take the SHA-256 from where it was published.",
        ),
        Case(
            "An imported checkpoint is of another number of classes",
            imported("segue", lambda file: None, step={"current": [0, 1, 2]}),
            "…downloaded.pth: knows 4 classes, but 3 are expected…",
            "The checkpoint was trained in another scenario or step.",
            "Name the scenario and the step of the file, or give another file.",
        ),
        Case(
            "An imported checkpoint was not copied completely",
            imported("segue", halve),
            "…downloaded.pth: not a readable checkpoint…",
            "The file is damaged.",
            "Copy it again.",
        ),
        Case(
            "An imported safetensors file was not copied completely",
            imported("safetensors", halve, "downloaded.safetensors"),
            "…downloaded.safetensors: cannot be read as safetensors (…); copy or download it again",
            "The file is damaged.",
            "Copy or export it again.",
        ),
        Case(
            "An imported safetensors file is not one of Segue's",
            imported("safetensors", tensors_alone, "downloaded.safetensors"),
            "…downloaded.safetensors: it does not describe classes and network, so it is not a checkpoint of Segue; to read "
            "released weights, name their format",
            "`format: safetensors` means an export of Segue, which tells its classes, their order and its network.",
            "Name the format of the release, such as `balconpas`; its weights may be stored as safetensors.",
        ),
        Case(
            "A pickle of released weights tries to run code",
            imported("mib", hostile_arrays, "downloaded.pkl"),
            "…downloaded.pkl: cannot be read as weights (it refers to '…', which is neither an array nor a container; nothing in "
            "it was executed); …",
            "A pickle can hold calls of any function. Segue reads arrays and plain containers only.",
            "Do not use the file, and tell whoever published it.",
        ),
        Case(
            "Released weights that try to run code",
            imported("mib", hostile),
            "…downloaded.pth: cannot be read as weights (it refers to '…', which is neither a tensor nor a plain value; nothing "
            "in it was executed); …",
            "A file of weights can hold calls of any function. Segue reads tensors and plain values only.",
            "Do not use the file, and tell whoever published it.",
        ),
    ),
)


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
