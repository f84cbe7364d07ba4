"""Opening a file of somebody else never runs code that it contains, whoever of us opens it."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hostile_pickles import PAYLOADS, Payload, system

from model.common.array_files import read_arrays
from model.common.weight_files import read_weights
from model.config.reading import read_yaml
from model.data.prepared.class_index import ClassIndex
from model.data.prepared.dataset import PreparedDataset
from model.evaluation.metrics.confusion import ConfusionMatrix
from model.evaluation.metrics.overlaps import PanopticOverlaps
from model.memory.memory_file import read_memory
from model.networks.deeplabv3.released_weights import read_state
from model.reporting.records import EvaluationRecord
from model.splits.image_lists import ImageList, read_image_list
from model.splits.split_file import read_split
from model.training.checkpoint import load_checkpoint, load_data

Write = Callable[[Path, bytes], None]
LEGACY = (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {}})
"""What stands before the content in files of torch before 1.6."""


def plain(path: Path, payload: bytes) -> None:
    """The pickle itself."""
    path.write_bytes(payload)


def torch_archive(path: Path, payload: bytes) -> None:
    """An archive of torch.save whose pickle was exchanged."""
    stream = io.BytesIO()
    torch.save({"format": 1, "weight": torch.zeros(3)}, stream)
    with zipfile.ZipFile(stream) as whole, zipfile.ZipFile(path, "w") as changed:
        for name in whole.namelist():
            changed.writestr(name, payload if name.endswith("/data.pkl") else whole.read(name))


def old_torch_file(path: Path, payload: bytes) -> None:
    """A file as torch wrote them before 1.6."""
    path.write_bytes(b"".join(pickle.dumps(part, 2) for part in LEGACY) + payload + pickle.dumps([], 2))


def array_of_objects(path: Path, payload: bytes) -> None:
    """A file of numpy whose array is a pickle; in an archive if its name says so."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|O", "fortran_order": False, "shape": (1,)})
    content = stream.getvalue() + payload
    if path.suffix == ".npy":
        path.write_bytes(content)
        return
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("header", "image_ids", "pixels", "counts", "truth"):
            archive.writestr(f"{name}.npy", content)


def index_list(path: Path) -> object:
    return read_image_list(path, ImageList("list.npy", "positions"))


LOADERS: dict[str, tuple[str, Write, Callable[[Path], object]]] = {
    "checkpoint, archive": ("checkpoint.pt", torch_archive, load_checkpoint),
    "checkpoint, old format": ("checkpoint.pt", old_torch_file, load_checkpoint),
    "checkpoint, pickle": ("checkpoint.pt", plain, load_checkpoint),
    "snapshot, archive": ("snapshot.pt", torch_archive, load_data),
    "snapshot, pickle": ("snapshot.pt", plain, load_data),
    "weights of torchvision and DeepLab, archive": ("weights.pth", torch_archive, read_state),
    "weights of torchvision and DeepLab, old format": ("weights.pth", old_torch_file, read_state),
    "weights of torchvision and DeepLab, pickle": ("weights.pth.tar", plain, read_state),
    "weights of Mask2Former, archive": ("weights.pth", torch_archive, read_weights),
    "weights of Mask2Former, old format": ("weights.pth", old_torch_file, read_weights),
    "weights of detectron2, pickle": ("weights.pkl", plain, read_weights),
    "weights of detectron2, archive": ("weights.pkl", torch_archive, read_weights),
    "class index": ("index.npz", array_of_objects, ClassIndex.load),
    "class index, pickle": ("index.npz", plain, ClassIndex.load),
    "confusion matrix": ("counts.npz", array_of_objects, ConfusionMatrix.load),
    "panoptic overlaps": ("counts.npz", array_of_objects, PanopticOverlaps.load),
    "predictions": ("predictions.npz", array_of_objects, read_arrays),
    "predictions, pickle": ("predictions.npz", plain, read_arrays),
    "image list": ("list.npy", array_of_objects, index_list),
    "image list, pickle": ("list.npy", plain, index_list),
    "memory, pickle": ("memory.json", plain, read_memory),
    "split, pickle": ("split.json", plain, read_split),
    "prepared dataset, pickle": ("dataset.json", plain, lambda path: PreparedDataset.open(path.parent)),
    "evaluation, pickle": ("evaluation.json", plain, EvaluationRecord.read),
}


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
def test_every_payload_runs_code_where_nothing_prevents_it(tmp_path: Path, payload: Payload) -> None:
    marker = tmp_path / "marker"
    pickle.loads(payload(marker))
    assert marker.exists()


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
@pytest.mark.parametrize("loader", LOADERS)
def test_no_loader_runs_code_of_a_file(tmp_path: Path, loader: str, payload: Payload) -> None:
    name, write, load = LOADERS[loader]
    marker = tmp_path / "marker"
    write(tmp_path / name, payload(marker))
    with pytest.raises(ValueError) as caught:
        load(tmp_path / name)
    assert not marker.exists()
    message = str(caught.value)
    assert name in message or load is read_arrays  # whoever calls read_arrays names the file
    assert "\n" not in message and message


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['touch {}']",
        "key: !!python/object/apply:os.system ['touch {}']",
        "key: !!python/object/new:os.system ['touch {}']",
        "key: !!python/name:os.system ''",
    ],
)
def test_a_yaml_file_runs_no_code(tmp_path: Path, text: str) -> None:
    marker = tmp_path / "marker"
    (tmp_path / "config.yaml").write_text(text.format(marker))
    with pytest.raises(ValueError, match=r"config\.yaml: .*not valid YAML"):
        read_yaml(tmp_path / "config.yaml")
    assert not marker.exists()


def test_a_pickle_cannot_change_the_functions_that_open_it(tmp_path: Path) -> None:
    """The state of a function that a pickle names is set where later files would meet it."""
    text = b"cnumpy._core.numeric\n_frombuffer\n(N}X\x04\x00\x00\x00evilI1\nstb."
    (tmp_path / "weights.pkl").write_bytes(text)
    with pytest.raises(ValueError):
        read_weights(tmp_path / "weights.pkl")
    assert not hasattr(np._core.numeric._frombuffer, "evil")


@pytest.mark.parametrize("load", [load_checkpoint, read_state, read_weights])
def test_what_a_file_refers_to_is_named(tmp_path: Path, load: Callable[[Path], object]) -> None:
    torch_archive(tmp_path / "weights.pth", pickle.dumps(system(tmp_path / "marker"), 2))
    with pytest.raises(ValueError, match=r"it refers to 'posix\.system', .*nothing in it was executed"):
        load(tmp_path / "weights.pth")
