"""Photographs, label maps and annotations that are missing, damaged or contradict each other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from bad_case import Case, Section
from bad_workspace import Command, Workspace
from PIL import Image

Damage = Callable[[Workspace], Command]


def photos(name: str, damage: Callable[[Path], None], **options: Any) -> Damage:
    """Damage one file of the folder dataset, then prepare it."""

    def do(workspace: Workspace) -> Command:
        damage(workspace.raw / name)
        return workspace.prepare("photos", **options)

    return do


def panoptic(name: str, damage: Callable[[Path], None]) -> Damage:
    """Damage one file of the dataset in COCO's layout, then prepare it."""

    def do(workspace: Workspace) -> Command:
        damage(workspace.coco / name)
        return workspace.prepare("panoptic-photos")

    return do


def options(**changed: Any) -> Damage:
    """Prepare the folder dataset with other options."""
    return lambda workspace: workspace.prepare("photos", **changed)


def halve(file: Path) -> None:
    """Keep the first half, as an interrupted copy does."""
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(file: Path) -> None:
    """No content is left."""
    file.write_bytes(b"")


def remove(file: Path) -> None:
    """The file is gone."""
    file.unlink()


def web_page(file: Path) -> None:
    """What a failed download leaves in place of the image."""
    file.write_text("<html><body>404 Not Found</body></html>")


def cmyk(file: Path) -> None:
    """A photograph prepared for printing."""
    Image.open(file).convert("CMYK").save(file)


def with_nan(file: Path) -> None:
    """An image of floating-point values, one of them NaN."""
    image = np.zeros((24, 32), dtype=np.float32)
    image[3, 4] = np.nan
    Image.fromarray(image).save(file, format="TIFF")


def wide(file: Path) -> None:
    """A photograph with 16 bits."""
    Image.fromarray(np.full((24, 32), 4000, dtype=np.uint16)).save(file, format="PNG")


def coloured(file: Path) -> None:
    """A label map saved in colours."""
    Image.open(file).convert("RGB").save(file)


def strange_label(file: Path) -> None:
    """A label that belongs to no class."""
    labels = np.array(Image.open(file))
    labels[0, 0] = 77
    Image.fromarray(labels).save(file)


def smaller(file: Path) -> None:
    """Another size."""
    image = Image.open(file)
    image.crop((0, 0, image.width - 2, image.height)).save(file)


def straddling(file: Path) -> None:
    """An object that spans two classes."""
    numbers = np.array(Image.open(file))
    numbers[numbers > 0] = 1
    Image.fromarray(numbers).save(file)


def strange_segment(file: Path) -> None:
    """A segment that the annotation does not list."""
    ids = np.array(Image.open(file))
    ids[0, 0] = (9, 0, 0)
    Image.fromarray(ids).save(file)


def edit_json(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Change the content of a JSON file."""

    def edit(file: Path) -> None:
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))

    return edit


def rotated(file: Path) -> None:
    """As a camera writes that was held upright: the metadata say that the image is to be rotated."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(file).save(file, exif=exif)


def in_capitals(file: Path) -> None:
    """A second photograph, whose extension is in capitals."""
    file.with_suffix(".JPG").write_bytes(file.read_bytes())


def latin1(file: Path) -> None:
    """Text as old programs write it."""
    file.write_bytes("sky\ngräss\nball\nbox".encode("latin-1"))


def name_outside(file: Path) -> None:
    """The list names an image above its folder."""
    file.write_text("one\n../../two")


def repeat_path(file: Path) -> None:
    """Two names that lead to one image."""
    file.write_text("one\ntwo\n./one")


def repeat_name(file: Path) -> None:
    """The list names an image twice."""
    file.write_text(file.read_text() + "\none")


IMAGES = Section(
    "Photographs and label maps",
    (
        Case(
            "A photograph is missing",
            photos("images/two.jpg", remove),
            "…photos/images/two(.jpg|.jpeg|.png) does not exist, but …photos/train.txt names it: copy it, or remove the name",
            "The image list names a file that does not exist.",
            "Copy the file, or remove its name from the list.",
        ),
        Case(
            "A photograph is truncated",
            photos("images/two.jpg", halve),
            "…photos/images/two.jpg cannot be read as an image (…): copy or unpack it again, or take it out of the dataset",
            "The file ends too early: an interrupted copy, download or extraction.",
            "Copy or unpack it again. Preparation reads every photograph once, so none fails in the middle of training.",
        ),
        Case(
            "A photograph is empty",
            photos("images/two.jpg", empty),
            "…photos/images/two.jpg is empty (0 bytes): copy or unpack it again, or take it out of the dataset",
            "The file has no content, for instance because the disk was full.",
            "Copy or unpack it again.",
        ),
        Case(
            "A photograph is something else",
            photos("images/two.jpg", web_page),
            "…photos/images/two.jpg cannot be read as an image (…): copy or unpack it again, or take it out of the dataset",
            "The file is not an image, whatever its name says; often it is the error page of a failed download.",
            "Download it again.",
        ),
        Case(
            "A photograph is CMYK",
            photos("images/two.jpg", cmyk),
            "…photos/images/two.jpg is a CMYK image; expected 8-bit RGB or grey: convert it with any image program",
            "The file holds the inks of a printer, which correspond to no RGB values without the printer's profile.",
            "Convert it to RGB with a program that knows colour profiles. Only the published datasets, which contain a few, "
            "are converted automatically.",
        ),
        Case(
            "An image holds NaN",
            photos("images/two.jpg", with_nan),
            "…photos/images/two.jpg is an image of mode 'F' (more than 8 bits per channel); expected 8-bit RGB or grey: "
            "convert it with any image program",
            "The file holds floating-point values, possibly NaN; converted as they are, they would be clipped at 255.",
            "Scale it to 0…255 and save it with 8 bits.",
        ),
        Case(
            "A photograph has 16 bits",
            photos("images/two.jpg", wide),
            "…photos/images/two.jpg is an image of mode 'I;16' (more than 8 bits per channel); expected 8-bit RGB or grey: "
            "convert it with any image program",
            "Networks are trained with 8 bits per channel; converted as they are, the values would be clipped at 255.",
            "Scale it to 8 bits.",
        ),
        Case(
            "A label map is missing",
            photos("labels/two.png", remove),
            "…photos/labels/two(.png) does not exist, but …photos/train.txt names it: copy it, or remove the name",
            "An image has no label map of its name.",
            "Copy the label map, or remove the image from the list.",
        ),
        Case(
            "A label map is truncated",
            photos("labels/two.png", halve),
            "…photos/labels/two.png cannot be read as an image (…): copy or unpack it again, or take it out of the dataset",
            "The file ends too early.",
            "Copy or unpack it again.",
        ),
        Case(
            "A label map is in colour",
            photos("labels/two.png", coloured),
            "…photos/labels/two.png has 3 channels; a label map has one: save it as grey or palette PNG",
            "The map shows the classes as colours instead of numbers.",
            "Export the labels as numbers: one channel, or a palette.",
        ),
        Case(
            "A label is out of range",
            photos("labels/two.png", strange_label),
            "…photos/labels/two.png has label 77, which is neither in the class list nor background_label nor ignore_label: "
            "add it there, or correct the map",
            "A pixel has a label that belongs to no class.",
            "Name the label under `classes`, `background_label` or `ignore_label`, or correct the map.",
        ),
        Case(
            "A label map has another size than its image",
            photos("labels/two.png", smaller),
            "…photos/labels/two.png is (30, 24), its image …photos/images/two.jpg is (32, 24): sizes are (width, height); "
            "make both from the same original",
            "Image and map were scaled or cropped differently; sizes are width and height.",
            "Make both from the same original.",
        ),
        Case(
            "Instance maps without a list of countable classes",
            options(things=[]),
            "with instances, the option 'things' has to name the countable classes: list them there",
            "Instance maps number the objects, but the configuration does not say which classes are countable.",
            "List them under the dataset's option `things`, or leave the instance maps out.",
        ),
        Case(
            "An instance spans two classes",
            photos("instances/two.png", straddling),
            "…photos/instances/two.png: instance 1 covers labels [2, 3]; expected exactly one thing class: "
            "give each part a number of its own",
            "Pixels with the same number in the instance map have several classes in the label map.",
            "Renumber the objects so that each lies within one class.",
        ),
        Case(
            "A saliency map cannot be read",
            photos("saliency/two.png", halve),
            "…photos/saliency/two.png cannot be read as an image (…): copy or unpack it again, or take it out of the dataset",
            "The file ends too early.",
            "Make the saliency map again, or remove `saliency` from `splits`: only SSUL reads it.",
        ),
        Case(
            "A saliency map has another size",
            photos("saliency/two.png", smaller),
            "…photos/saliency/two.png is (30, 24), its image is (32, 24): sizes are (width, height); "
            "make both from the same original",
            "It was made from another version of the photograph.",
            "Make it again at the size of the photograph.",
        ),
        Case(
            "The image list names an image twice",
            photos("train.txt", repeat_name),
            "…photos/train.txt names 'one' twice: remove a line",
            "Two lines of the list are the same.",
            "Remove one of them.",
        ),
        Case(
            "The image list names an image in two ways",
            photos("train.txt", repeat_path),
            "…photos/train.txt names './one', which is 'one', twice: remove a line",
            "Two lines lead to the same image.",
            "Remove one of them.",
        ),
        Case(
            "The image list leads out of its folder",
            photos("train.txt", name_outside),
            "…photos/train.txt: the name '../../two' leads out of the folder of the images: names are relative to it, without "
            "'..'",
            "Names of images become names of prepared files, and nothing is written outside the results.",
            "Copy the image into the folder, or name a folder above both under `splits`.",
        ),
        Case(
            "Two photographs have the same name",
            photos("images/two.jpg", in_capitals),
            "…photos/images has two files named 'two' (two.JPG, two.jpg): remove one",
            "Lists name images without extensions, so it is unclear which of the two is meant.",
            "Remove or rename one of them.",
        ),
        Case(
            "A list is not UTF-8",
            photos("classes.txt", latin1),
            "…photos/classes.txt is not UTF-8 text (line 2, byte 0xe4): save it as UTF-8 in an editor",
            "The file was saved in another encoding, as older programs do.",
            "Save it again as UTF-8.",
        ),
        Case(
            "A label does not fit into a label map",
            options(ignore_label=65536),
            "ignore_label has 65536, but labels of 16-bit maps are 0…65535: correct it",
            "Label maps have 8 or 16 bits.",
            "Correct the option.",
        ),
        Case(
            "The name of a split is a path",
            options(splits={"../train": {}}),
            "'../train' is no name of a split: use letters, digits, dot, hyphen and underscore, such as 'train'",
            "The name of a split becomes the name of files and folders of the prepared dataset.",
            "Choose a plain name; `images`, `labels` and `list` say where the files are.",
        ),
        Case(
            "A photograph is rotated by its metadata, its label map is not",
            photos("images/two.jpg", rotated),
            "…photos/labels/two.png is (32, 24), its image …photos/images/two.jpg is (24, 32) as its metadata rotate it, and as "
            "viewers show it; if the map was drawn on the stored image, remove the orientation from the metadata: sizes are "
            "(width, height); make both from the same original",
            "Cameras that are held upright store the image sideways and say so in the metadata (EXIF). Segue applies the "
            "orientation everywhere, as viewers and annotation tools do.",
            "Draw the map on what viewers show, or remove the orientation, for instance with `exiftool -Orientation= FILE`.",
        ),
        Case(
            "The image list is empty",
            photos("train.txt", empty),
            "…photos/train.txt names no image: write one name per line, without extension",
            "The split would have no images.",
            "Write the names of its images into the file, one per line, without extensions.",
        ),
        Case(
            "The folder of a dataset does not exist",
            options(root="nowhere/photos"),
            "dataset 'photos' cannot be prepared: folder nowhere/photos does not exist: correct the option 'root'",
            "The path is wrong, or the dataset has not been unpacked there.",
            "Correct `root`, or unpack the dataset there.",
        ),
        Case(
            "A panoptic map disagrees with its annotation",
            panoptic("panoptic_some/two.png", strange_segment),
            "…panoptic-photos/panoptic_some/two.png has segment 9, which its annotation does not list: "
            "map and annotation are not from the same release, unpack both again",
            "The map and the JSON file come from different releases, or one was changed.",
            "Unpack both from the same archive.",
        ),
        Case(
            "A panoptic annotation is truncated",
            panoptic("annotations/panoptic_some.json", halve),
            "…annotations/panoptic_some.json is not a complete panoptic annotation: unpack its archive again",
            "A download or extraction was interrupted.",
            "Unpack the archive again.",
        ),
        Case(
            "A panoptic annotation lacks an entry",
            panoptic("annotations/panoptic_some.json", edit_json(lambda c: c["annotations"][1].pop("segments_info"))),
            "…annotations/panoptic_some.json: annotations[1] has no 'segments_info': it is not in COCO's layout, or was edited: "
            "unpack its archive again",
            "The file is not in the layout that COCO publishes, or was edited.",
            "Compare it with a published one; `docs/add-a-dataset.md` describes the layout.",
        ),
        Case(
            "A panoptic annotation has a value of the wrong type",
            panoptic(
                "annotations/panoptic_some.json",
                edit_json(lambda c: c["annotations"][1]["segments_info"][0].update(category_id=None)),
            ),
            "…annotations/panoptic_some.json: annotations[1].segments_info[0].category_id is 'None', expected a valid integer: "
            "it is not in COCO's layout, or was edited: unpack its archive again",
            "Every entry is checked before the first image is prepared.",
            "Correct the entry, or unpack the archive again.",
        ),
        Case(
            "A panoptic annotation has two entries for an image",
            panoptic(
                "annotations/panoptic_some.json", edit_json(lambda c: c["annotations"].append(c["annotations"][0]))
            ),
            "…annotations/panoptic_some.json: annotations[0] and annotations[3] both have image_id 0: remove one",
            "It is unclear which of the two is right.",
            "Remove one of them.",
        ),
    ),
)
