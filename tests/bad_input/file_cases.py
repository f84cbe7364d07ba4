"""Intermediate files of the workflow that were damaged, edited or belong to something else."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from bad_case import Case, Section
from bad_workspace import Command, Workspace
from PIL import Image
from raw_cases import edit_json, halve, remove

from model.common.json_files import CHECKSUM, write_checked
from model.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

Damage = Callable[[Workspace], Command]


def prepared(file: str, damage: Callable[[Path], object], command: Callable[[Workspace], Command]) -> Damage:
    """Damage a file of the prepared dataset."""

    def do(workspace: Workspace) -> Command:
        damage(sorted(workspace.data.glob(file))[0])
        return command(workspace)

    return do


def split(step: int, damage: Callable[[Path], object]) -> Damage:
    """Damage a split file, then train its step."""

    def do(workspace: Workspace) -> Command:
        damage(workspace.split(step))
        return workspace.train(step)

    return do


def memory(change: Callable[[dict[str, Any]], object]) -> Damage:
    """Edit the memory of step 1, then train with it."""

    def do(workspace: Workspace) -> Command:
        edit_own(change)(workspace.memory)
        return workspace.train(1, "finetuning-replay")

    return do


def truncated_memory(workspace: Workspace) -> Command:
    """A truncated memory is read when the next one is selected."""
    halve(workspace.memory)
    return workspace.select_memory(2)


def edit_own(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Change a JSON file of Segue's as another job would have written it, its checksum included."""

    def edit(file: Path) -> None:
        content = {key: value for key, value in json.loads(file.read_text()).items() if key != CHECKSUM}
        change(content)
        write_checked(file, content)

    return edit


def flip_a_letter(file: Path) -> None:
    """One letter of the text is another one."""
    text = file.read_text()
    place = text.index("semantic")
    file.write_text(text[:place] + "S" + text[place + 1 :])


def shorter(file: Path) -> None:
    """An image without its last rows."""
    image = Image.open(file)
    image.crop((0, 0, image.width, image.height - 8)).save(file)


def all_shorter(folder: Path) -> None:
    """The same for all images of a folder."""
    for file in folder.iterdir():
        shorter(file)


def rename_exemplar(content: dict[str, Any]) -> None:
    """The memory names an image that the dataset no longer has."""
    content["images"][0]["id"] = "vanished"


def checkpoint(change: Callable[[Checkpoint], Checkpoint]) -> Damage:
    """Change what the base checkpoint holds, then train step 1 from it."""

    def do(workspace: Workspace) -> Command:
        save_checkpoint(workspace.base, change(load_checkpoint(workspace.base)))
        return workspace.train(1)

    return do


def checkpoint_file(damage: Callable[[Path], object]) -> Damage:
    """Damage the base checkpoint's file, then train step 1 from it."""

    def do(workspace: Workspace) -> Command:
        damage(workspace.base)
        return workspace.train(1)

    return do


def flip_a_bit(file: Path) -> None:
    """One bit of one weight."""
    weight = max(load_checkpoint(file).network.values(), key=torch.Tensor.numel)
    content = bytearray(file.read_bytes())
    content[content.index(weight.contiguous().numpy().tobytes()) + 2] ^= 64
    file.write_bytes(content)


def flip_in_the_middle(file: Path) -> None:
    """One bit of the first array's compressed content."""
    content = bytearray(file.read_bytes())
    with zipfile.ZipFile(file) as archive:
        first = archive.infolist()[0]
    content[first.header_offset + 30 + len(first.filename) + first.compress_size // 2] ^= 64
    file.write_bytes(content)


class Code:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.marker}'",)


def hostile(file: Path) -> None:
    """A checkpoint that tries to run a command when it is opened."""
    torch.save({"format": 1, "network": Code(file.with_name("marker"))}, file, pickle_module=pickle)


def without_a_weight(content: Checkpoint) -> Checkpoint:
    """One key is missing."""
    return replace(content, network=dict(list(content.network.items())[1:]))


def with_a_weight(content: Checkpoint) -> Checkpoint:
    """One key too many."""
    return replace(content, network={**content.network, "extra.weight": torch.zeros(2)})


def initial_weights(content: object) -> Damage:
    """A recipe whose initial weights hold something else."""

    def do(workspace: Workspace) -> Command:
        file = workspace.folder / "weights.pth"
        torch.save(content, file)
        network = workspace.training(0).spec["recipe"]["network"]
        return workspace.train(0, network={**network, "weights": {"file": str(file), "source": "torchvision"}})

    return do


def unset_weights(workspace: Workspace) -> Command:
    """Initial weights whose path contains an environment variable that is not set."""
    weights = {"file": "$SEGUE_NOT_SET/resnet.pth", "source": "torchvision"}
    network = workspace.training(0).spec["recipe"]["network"]
    return workspace.train(0, network={**network, "weights": weights})


def evaluated_as_a_later_step(workspace: Workspace) -> Command:
    """The base checkpoint in place of that of step 1."""
    return workspace.evaluate(1, workspace.base)


def without_images(workspace: Workspace) -> Command:
    """No image has only classes of the first step: everything else is in all of them."""
    (file,) = workspace.results.glob("data/photos/dataset.json")
    index = file.with_name("class_index.npz")
    done = workspace.run(["index_classes.py", "--data", str(file), "--output", str(index)])
    assert done.status == 0, done.said
    step = {"index": 0, "past": [], "current": [0]}
    spec = {"dataset": "photos", "task": "semantic", "setting": "disjoint", "step": step}
    output = workspace.results / "splits" / "photos.json"
    return ["split_steps.py", "--spec", json.dumps(spec), "--index", str(index), "--output", str(output)]


def of_nan(workspace: Workspace) -> Command:
    """Every weight of the base checkpoint is NaN, and it is evaluated."""
    content = load_checkpoint(workspace.base)
    broken = {k: torch.full_like(v, torch.nan) if v.is_floating_point() else v for k, v in content.network.items()}
    save_checkpoint(workspace.base, replace(content, network=broken))
    return workspace.evaluate(0, workspace.base)


def sparse(file: Path) -> None:
    """A weight is stored as its entries that are not zero."""
    network = load_checkpoint(file).network
    name, weight = next((k, v) for k, v in network.items() if v.ndim == 1 and v.is_floating_point())
    edited(network={**network, name: weight.to_sparse()})(file)


def edited(**entries: object) -> Callable[[Path], None]:
    """Replace entries of a checkpoint's file."""

    def edit(file: Path) -> None:
        torch.save({**torch.load(file, weights_only=True), **entries}, file)

    return edit


def list_in_latin1(workspace: Workspace) -> Command:
    """The images of a step are listed in a file that an old program wrote."""
    file = workspace.folder / "lists" / "step1.txt"
    file.parent.mkdir()
    file.write_bytes("one\ngr\u00fcn\n".encode("latin-1"))
    image_list = {"file": "step1.txt", "entries": "names", "column": None}
    return [*workspace.split_steps(1, setting="partition", image_list=image_list), "--list", str(file)]


def evaluation(file: str, damage: Callable[[Path], object], command: Callable[[Workspace], Command]) -> Damage:
    """Damage a file of the base step's evaluation."""

    def do(workspace: Workspace) -> Command:
        damage(workspace.evaluation(0) / file)
        return command(workspace)

    return do


EVALUATIONS = Section(
    "Evaluations",
    (
        Case(
            "An evaluation is missing",
            Workspace.tables,
            "…/evaluation.json is missing: this evaluation has not run or has failed; run the workflow",
            "Tables never leave anything out silently.",
            "Start the workflow; it evaluates what is missing.",
        ),
        Case(
            "The record of an evaluation is damaged",
            evaluation("evaluation.json", halve, Workspace.tables),
            "…/evaluation.json is not valid JSON (…); delete it to evaluate again",
            "The file ends too early, or was edited.",
            "Delete it and start the workflow again.",
        ),
        Case(
            "The counts of an evaluation are damaged",
            evaluation("counts.npz", flip_in_the_middle, Workspace.tables),
            "…/counts.npz is not a stored confusion matrix (…); delete it to evaluate again",
            "The content does not match the checksum stored with it.",
            "Delete it and start the workflow again; check the disk.",
        ),
        Case(
            "Predictions for the gallery are damaged",
            evaluation("predictions.npz", halve, Workspace.gallery),
            "…/predictions.npz holds no predictions (…); delete it to evaluate the step again",
            "The file ends too early.",
            "Delete it and start the workflow again.",
        ),
    ),
)

DATA = Section(
    "Prepared data, splits and memories",
    (
        Case(
            "The description of a prepared dataset is damaged",
            prepared("dataset.json", edit_json(lambda c: c["categories"][0].pop("name")), Workspace.index_classes),
            "…shapes-micro/dataset.json: categories.0.name: field required; delete it to have the dataset "
            "prepared again",
            "The file was edited or written by something else.",
            "Delete it: what has been prepared is kept, everything else is done again.",
        ),
        Case(
            "A prepared label map is missing",
            prepared("semantic/train/*.png", remove, Workspace.index_classes),
            "…shapes-micro/semantic/train/….png does not exist: delete …shapes-micro/dataset.json and start the workflow, which "
            "prepares what is missing or has changed",
            "A file of the prepared dataset was deleted.",
            "Delete its `dataset.json` and start the workflow again; only what is missing is made.",
        ),
        Case(
            "A prepared label map has a label out of range",
            prepared(
                "semantic/train/*.png",
                lambda file: __import__("raw_cases").strange_label(file),
                Workspace.index_classes,
            ),
            "…shapes-micro/semantic/train/….png has label 77, which is neither in the class table of 'shapes-micro' nor "
            "background nor void: delete …shapes-micro/dataset.json and start the workflow, which prepares what is missing or "
            "has changed",
            "The map was changed after it was prepared.",
            "Delete `dataset.json` and start the workflow again.",
        ),
        Case(
            "A prepared label map has another size",
            prepared("semantic/train/*.png", shorter, Workspace.index_classes),
            "…shapes-micro/semantic/train/….png is … x …, but image '…' of dataset 'shapes-micro' was prepared with … x … "
            "(width x height): put the original back, or start the workflow, which prepares what has changed",
            "The map was replaced after it was prepared.",
            "Delete `dataset.json` of the prepared dataset and start the workflow again.",
        ),
        Case(
            "A photograph has another size than when it was prepared",
            prepared("raw/images/training", all_shorter, lambda workspace: workspace.train(0)),
            "…shapes-micro/raw/images/training/….png is … x …, but image '…' of dataset 'shapes-micro' was prepared with … x … "
            "(width x height): put the original back, or start the workflow, which prepares what has changed",
            "Photographs are read from where they are, and this one was replaced: its labels belong to other pixels.",
            "Start the workflow again: it notices replaced files and prepares them.",
        ),
        Case(
            "The description of a prepared dataset was edited",
            prepared("dataset.json", flip_a_letter, Workspace.index_classes),
            "…shapes-micro/dataset.json: its content does not match the checksum stored with it: it is damaged or was edited; "
            "delete it to have the dataset prepared again",
            "The file was changed by hand, or the disk damaged it.",
            "Delete it. Class names are changed in the raw data; the next run notices.",
        ),
        Case(
            "A photograph disappeared after it was prepared",
            prepared("raw/images/training/*.png", remove, lambda workspace: workspace.train(0)),
            "…shapes-micro/raw/images/training/….png does not exist, but dataset 'shapes-micro' was prepared "
            "with it: put it "
            "back, or delete … to have the dataset prepared again",
            "Photographs are not copied: training reads them from their original place. This is noticed before the first "
            "iteration.",
            "Put the file back.",
        ),
        Case(
            "A class index is damaged",
            prepared("class_index.npz", halve, lambda workspace: workspace.split_steps(0)),
            "…shapes-micro/class_index.npz is not a class index (…): delete it to scan the dataset again",
            "The file ends too early, or was changed: its checksums are verified.",
            "Delete it.",
        ),
        Case(
            "A step has no images",
            without_images,
            "step 0 of the disjoint setting has no image in split 'train' of 'photos': none of 3 images has at "
            "least one class of "
            "the step and no class of a later step (classes of the step: [0]). Use the overlapped setting, "
            "another class order, or "
            "more images",
            "The rule of the setting leaves no images to learn from.",
            "Follow one of the three suggestions.",
        ),
        Case(
            "A split file is damaged",
            split(0, halve),
            "…results/splits/….json is not valid JSON (…); delete it to have it made again",
            "The file ends too early, or was edited.",
            "Delete it.",
        ),
        Case(
            "A split file was edited",
            split(0, flip_a_letter),
            "…results/splits/….json: its content does not match the checksum stored with it: it is damaged or was edited; "
            "delete it to have it made again",
            "The file was changed by hand, or the disk damaged it.",
            "Delete it. To choose images yourself, give lists, see `docs/protocols.md`.",
        ),
        Case(
            "A split file belongs to another step",
            split(1, edit_own(lambda c: c.update(current=[0, 1]))),
            "…results/splits/….json: has current = [0, 1], but the job is about current = [4, 5]; give the "
            "job's own file, or "
            "delete this one to have it made again",
            "The file was copied from somewhere else, or edited.",
            "Delete it.",
        ),
        Case(
            "The image list of a step is not UTF-8",
            list_in_latin1,
            "…lists/step1.txt is not UTF-8 text (line 2, byte 0xfc): save it as UTF-8 in an editor; lists are .npy files, or "
            "text with one entry per line",
            "The file was saved in another encoding, or is not text at all.",
            "Save it again as UTF-8; a mark at its beginning (BOM) does no harm.",
        ),
        Case(
            "The memory names an image that no longer exists",
            memory(rename_exemplar),
            "…shapes-micro/train.csv: no image 'vanished'; the split or memory file that names it was made "
            "from another "
            "preparation of this dataset; delete that file to have it made again",
            "The dataset was prepared again with fewer images, or the memory was edited.",
            "Delete the memory file in `results/memory`.",
        ),
        Case(
            "The memory lacks an entry",
            memory(lambda content: content["images"][2].pop("classes")),
            "…results/memory/….json: images.2.classes: field required; delete it to have it made again",
            "The file was edited by hand.",
            "Delete it. Do not edit memories: another choice of exemplars is another selection rule.",
        ),
        Case(
            "The memory contradicts itself",
            memory(lambda content: content["images"].pop()),
            "…results/memory/….json: the whole: 'counts' says … of class …, but the images hold …: the file "
            "was changed by hand; "
            "delete it to have it made again",
            "An image was added or removed by hand.",
            "Delete the file.",
        ),
        Case(
            "The memory belongs to another step",
            memory(lambda content: content.update(step=2)),
            "…results/memory/….json: has step = 2, but the job is about step = 1; give the job's own file, or "
            "delete this one to "
            "have it made again",
            "The file was copied from another step.",
            "Delete it.",
        ),
        Case(
            "The memory is truncated",
            truncated_memory,
            "…results/memory/….json is not valid JSON (…); delete it to have it made again",
            "The file ends too early.",
            "Delete it.",
        ),
    ),
)

_FIT = "give the checkpoint of the same scenario, order and recipe, or train it again"

CHECKPOINTS = Section(
    "Checkpoints and weights",
    (
        Case(
            "The previous checkpoint is missing",
            checkpoint_file(remove),
            "…checkpoint.pt: no such file or directory; check the path, or run the workflow that makes it",
            "The step continues from a file that does not exist.",
            "Start the workflow, which trains the previous step.",
        ),
        Case(
            "A checkpoint is truncated",
            checkpoint_file(halve),
            "…checkpoint.pt: not a readable checkpoint (it is empty, incomplete, or was not written by "
            "torch.save); it is damaged, "
            "or holds more than tensors and plain values. Delete it to train the step again",
            "A copy was interrupted. Segue itself writes checkpoints completely or not at all.",
            "Copy it again, or delete it.",
        ),
        Case(
            "A bit of a checkpoint has flipped",
            checkpoint_file(flip_a_bit),
            "…checkpoint.pt: not a readable checkpoint (its entry '…' does not match the checksum "
            "stored with it); it is "
            "damaged, or holds more than tensors and plain values. Delete it to train the step again",
            "The disk, the memory or a transfer corrupted the file. PyTorch alone would load it silently.",
            "Copy it again, or delete it; check the disk.",
        ),
        Case(
            "A checkpoint tries to run code",
            checkpoint_file(hostile),
            "…checkpoint.pt: not a readable checkpoint (it refers to 'posix.system', which is neither a tensor "
            "nor a plain value; "
            "nothing in it was executed); it is damaged, or holds more than tensors and plain values. Delete it to "
            "train the step again",
            "The file contains more than data. Segue never executes anything in a file.",
            "Do not use the file, and find out where it comes from.",
        ),
        Case(
            "A checkpoint has its classes in another order",
            checkpoint(lambda content: replace(content, classes=content.classes[::-1])),
            f"…checkpoint.pt: its classes are in another order: place 0 holds class 3 instead of 0; {_FIT}",
            "It was trained with another class order: its outputs would be mixed up.",
            "Use the checkpoint of the same scenario.",
        ),
        Case(
            "A checkpoint has another number of classes",
            checkpoint(lambda content: replace(content, classes=content.classes[:-1])),
            f"…checkpoint.pt: knows 3 classes, but 4 are expected; {_FIT}",
            "It was trained in another scenario or step.",
            "Use the checkpoint of the same scenario.",
        ),
        Case(
            "A checkpoint belongs to another network",
            checkpoint(
                lambda content: replace(content, network_arguments={**content.network_arguments, "channels": 8})
            ),
            f"…checkpoint.pt: its network has channels = 8, but the recipe says 64; {_FIT}",
            "The recipe was changed after the checkpoint was trained, or the checkpoint comes from another recipe.",
            "Train it again, or use the recipe it was trained with.",
        ),
        Case(
            "A checkpoint lacks weights",
            checkpoint(without_a_weight),
            f"…checkpoint.pt: the weights do not fit the network: 1 missing (…); {_FIT}",
            "The checkpoint was made by another version of the network.",
            "Train it again.",
        ),
        Case(
            "A checkpoint has superfluous weights",
            checkpoint(with_a_weight),
            f"…checkpoint.pt: the weights do not fit the network: 1 unexpected (extra.weight); {_FIT}",
            "The checkpoint was made by another version of the network.",
            "Train it again.",
        ),
        Case(
            "A checkpoint comes from another program",
            checkpoint_file(lambda file: torch.save({"state_dict": {"weight": torch.zeros(2)}}, file)),
            "…checkpoint.pt: not a Segue checkpoint (no entry 'format'); convert it first",
            "The file was put where Segue keeps its own checkpoints.",
            "Name it as initial weights of the recipe instead: `network: {weights: {file: …, source: …}}`.",
        ),
        Case(
            "The format of a checkpoint is no number",
            checkpoint_file(edited(format=torch.ones(2))),
            "…checkpoint.pt: not a Segue checkpoint (its entry 'format' is no number); convert it first",
            "The file imitates a checkpoint, or was written by another program.",
            "Use a checkpoint that Segue has written.",
        ),
        Case(
            "A checkpoint has sparse weights",
            checkpoint_file(sparse),
            "…checkpoint.pt: not a readable checkpoint (its tensor 'network.…' is sparse or nested, expected a dense tensor of "
            "numbers); it is damaged, or holds more than tensors and plain values. Delete it to train the step again",
            "Sparse, nested or quantised tensors pass for weights, but no network can be loaded from them.",
            "Convert the weights with the program that wrote them, or train the step again.",
        ),
        Case(
            "A checkpoint claims to have more outputs than weights",
            checkpoint_file(edited(classes_per_step=[10**9])),
            "…checkpoint.pt: its entry 'classes_per_step' names 1000000000 outputs, which its weights do not have; delete it and "
            "train the step again",
            "A network with so many outputs would fill the memory before its weights were compared.",
            "Delete it and start the workflow again.",
        ),
        Case(
            "A checkpoint holds NaN",
            of_nan,
            "…checkpoint.pt: … of its … weights hold NaN or infinity (…): the training diverged, or the file was damaged before "
            "it was written; delete it and train the step again, with a lower learning rate if it diverges",
            "Its predictions would mean nothing, and be evaluated as 0.0.",
            "Delete it and start the workflow again. If that happens once more, lower the learning rate of the recipe.",
        ),
        Case(
            "A checkpoint is evaluated as another step's",
            evaluated_as_a_later_step,
            "…checkpoint.pt: knows classes [0, 1, 2, 3], but step 1 has [0, 1, 2, 3, 4, 5]; it "
            "belongs to another step, scenario or class order: give the checkpoint of this step",
            "Evaluation was started by hand with a checkpoint of another step.",
            "Use the checkpoint of the step.",
        ),
        Case(
            "The variable in the path of initial weights is not set",
            unset_weights,
            "network.weights.file: SEGUE_NOT_SET is not set (in '$SEGUE_NOT_SET/resnet.pth'): export it, or write its value",
            "The recipe reads its initial weights from a folder of your choice.",
            "Set the variable; `make doctor` says which weights a configuration needs.",
        ),
        Case(
            "Initial weights do not fit the network",
            initial_weights({"fc.weight": torch.zeros(2, 2)}),
            "…weights.pth: the weights do not fit the network (…",
            "The file belongs to another network, or `source` names the wrong project.",
            "Check the recipe against the origin of the weights.",
        ),
        Case(
            "Initial weights try to run code",
            initial_weights({"conv1.weight": Code(Path("marker"))}),
            "…weights.pth: not a file of weights, or damaged (it refers to 'posix.system', which is neither a "
            "tensor nor a plain "
            "value; nothing in it was executed); download it again",
            "The file contains more than weights. Segue never executes anything in a file.",
            "Do not use the file; download it from its authors.",
        ),
    ),
)
