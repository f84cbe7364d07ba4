"""Export a checkpoint: safetensors with a model card, the names of the released code, Hugging Face's transformers, or ONNX."""

import argparse
from pathlib import Path

import torch

from model.common.command_line import run
from model.common.files import atomic_file, write_text
from model.common.own_folders import MARKER, ForeignFolderError, check_claimable, claim
from model.evaluation.job import load_evaluated
from model.interop.formats import FORMATS
from model.interop.official_names import format_of, official_state
from model.interop.onnx_files import write_onnx
from model.interop.safetensors_files import write_safetensors
from model.interop.transformers_mask2former import to_transformers
from model.reporting.model_card import UNKNOWN_LICENCE, model_card
from model.reporting.stored_network import describe, one_file
from model.training.checkpoint import load_checkpoint

HOLDS = "exported checkpoint"


def main() -> None:
    """Parse the command line and write one export with its card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--checkpoint", required=True, help="checkpoint.pt of a step; a pattern that means one file will do"
    )
    parser.add_argument(
        "--format",
        default="safetensors",
        choices=("safetensors", "official", *FORMATS, "transformers", "onnx"),
        help="official: the names of the release that the network fits",
    )
    parser.add_argument(
        "--out", required=True, type=Path, help="folder to write: a new or empty one, or one of an export"
    )
    parser.add_argument("--size", type=int, nargs=2, default=(512, 512), help="height and width of images (ONNX)")
    parser.add_argument(
        "--data", type=Path, help="prepared dataset with the class table; default: that of the checkpoint's results"
    )
    parser.add_argument("--network", help="network of another package whose code you trust: package.module:Class")
    parser.add_argument("--licence", default=UNKNOWN_LICENCE, help="under which you publish the weights, for the card")
    arguments = parser.parse_args()
    path, out, form = one_file(arguments.checkpoint), arguments.out.expanduser(), arguments.format
    try:
        check_claimable(out, HOLDS)
    except ForeignFolderError:
        raise ForeignFolderError(
            f"{out} already exists and holds files that are not an export of Segue (it has no {MARKER}): name a new or an "
            "empty folder"
        ) from None
    checkpoint = load_checkpoint(path)
    stored = describe(path, checkpoint, arguments.data)
    network, words = load_evaluated(path, stored.step, arguments.network), form
    if form == "safetensors":
        file = out / "model.safetensors"
        claim(out, HOLDS)
        write_safetensors(file, checkpoint)
    elif form == "transformers":
        found = to_transformers(
            network, checkpoint.network_arguments, {k: one.name for k, one in enumerate(stored.classes)}
        )
        file, words = out / "model.safetensors", "Mask2Former of transformers"
        claim(out, HOLDS)
        found.save_pretrained(out)
    elif form == "onnx":
        description = {
            "classes": list(checkpoint.classes),
            "names": [one.name for one in stored.classes],
            "size": arguments.size,
        }
        file, family = out / "model.onnx", checkpoint.spec["recipe"]["family"]
        height, width = arguments.size
        claim(out, HOLDS)
        difference = write_onnx(file, network, family, (height, width), description)
        words = f"ONNX for images of {height} × {width}"
        print(f"ONNX Runtime gives the same outputs within {difference:.1g}")
    else:
        form = format_of(network, checkpoint.network_arguments, None if form == "official" else form)
        official = FORMATS[form]
        file, words = out / f"{form}.pth", f"{official.project}'s names"
        state = official_state(checkpoint, form)
        claim(out, HOLDS)
        with atomic_file(file) as stream:
            torch.save({official.container: state}, stream)
        if not official.verified:
            print(
                f"note: {official.project}'s names are derived from its code and were not compared with a released file"
            )
    write_text(out / "README.md", model_card(path, stored, words, [file.name], arguments.licence))
    print(f"{file} and its card are written")


if __name__ == "__main__":
    run(main)
