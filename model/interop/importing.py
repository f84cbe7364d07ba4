"""A foreign file in the place of a trained step: weights of a release, or a checkpoint of Segue from elsewhere.

The description of the job says what the file has to hold: classes in learning order, the steps in which they were learnt, the
recipe's network. A checkpoint of Segue (``segue``, ``safetensors``) tells these things itself, and they are compared. Released
files hold weights only: every name and shape has to fit the network of the described step; that the order of the classes is the
described one cannot be seen in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.common.provenance import checksum
from model.interop.formats import OWN_FORMATS
from model.interop.official_names import fill, read_official
from model.interop.safetensors_files import read_safetensors
from model.networks import registry as networks
from model.scenario import Step
from model.training.checkpoint import Checkpoint, load_checkpoint, load_network, verify_checkpoint


class ImportedFileError(ValueError):
    """A file that is not the one that was asked for; the message names both checksums."""


def check_there(file: Path) -> None:
    """Refuse a file that does not exist.

    Raises:
        ImportedFileError: naming it.
    """
    if not file.is_file():
        raise ImportedFileError(f"{file}: there is no such file; put it there, or correct 'file' in the configuration")


def import_checkpoint(file: Path, spec: Mapping[str, Any]) -> Checkpoint:
    """The checkpoint of a step, from a file.

    Args:
        file: of any origin; nothing in it is executed.
        spec: the job: dataset, task, step, method, recipe, and under ``imported`` format, sha256 and classes of each step.

    Raises:
        ImportedFileError: if the file is missing or is another one than described.
        ValueError: naming the file and the first difference, if it cannot be read or is of other classes or another network.
    """
    wanted = spec["imported"]
    check_there(file)
    if (found := checksum(file)) != wanted["sha256"]:
        raise ImportedFileError(
            f"{file}: its SHA-256 is {found}, but the configuration says {wanted['sha256']}: it is another file, or damaged; "
            "download it again, or correct 'sha256'"
        )
    step = Step(spec["step"]["index"], tuple(spec["step"]["past"]), tuple(spec["step"]["current"]))
    arguments, per_step = dict(spec["recipe"]["network"]), tuple(wanted["classes_per_step"])
    network = networks.build(arguments["name"], per_step, {k: v for k, v in arguments.items() if k != "name"})
    state: dict[str, Any] = {}
    if wanted["format"] in OWN_FORMATS:
        stored = load_checkpoint(file) if wanted["format"] == "segue" else read_safetensors(file)
        verify_checkpoint(stored, file, classes=step.seen, network_arguments=arguments, step=step.index)
        per_step, state = stored.classes_per_step, stored.method_state
        network = networks.build(arguments["name"], per_step, {k: v for k, v in arguments.items() if k != "name"})
        load_network(network, stored.network, file)
    else:
        fill(network, read_official(file, wanted["format"]), str(file))
    return Checkpoint(network.state_dict(), step.seen, per_step, step.index, arguments, state, dict(spec))
