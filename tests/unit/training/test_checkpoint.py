import os
import pickle
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch import nn

from model.training.checkpoint import (
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    load_network,
    save_checkpoint,
    verify_checkpoint,
)

ARGUMENTS = {"name": "deeplabv3", "backbone": "tiny"}


@pytest.fixture
def checkpoint():
    network = nn.Linear(3, 2)
    return Checkpoint(
        network=network.state_dict(),
        classes=(4, 1, 7),
        classes_per_step=(2, 1),
        step=1,
        network_arguments=ARGUMENTS,
        method_state={
            "prototypes": torch.arange(6.0).view(2, 3),
            "count": 3,
            "names": ["a", None],
            "fisher": {"w": 0.5},
        },
        spec={"seed": 0},
    )


def test_what_is_written_is_read_back(tmp_path, checkpoint):
    path = tmp_path / "folder" / "checkpoint.pt"
    save_checkpoint(path, checkpoint)
    found = load_checkpoint(path)
    for key, value in checkpoint.network.items():
        assert torch.equal(found.network[key], value)
    assert torch.equal(found.method_state["prototypes"], checkpoint.method_state["prototypes"])
    rest = {"network": {}, "method_state": {}}
    assert replace(found, **rest) == replace(checkpoint, **rest)
    assert found.method_state["names"] == ["a", None] and found.method_state["fisher"] == {"w": 0.5}


def test_equal_content_makes_equal_files_whatever_their_name(tmp_path, checkpoint):
    save_checkpoint(tmp_path / "a.pt", checkpoint)
    save_checkpoint(tmp_path / "other.pt", checkpoint)
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "other.pt").read_bytes()


def test_a_view_does_not_drag_its_storage_along(tmp_path, checkpoint):
    big = torch.zeros(1_000_000)
    save_checkpoint(tmp_path / "a.pt", replace(checkpoint, method_state={"part": big[:10]}))
    assert (tmp_path / "a.pt").stat().st_size < 100_000


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, checkpoint):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, checkpoint)
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=r"method_state\['counts'\]: a ndarray"):
        save_checkpoint(path, replace(checkpoint, method_state={"counts": np.zeros(3)}))
    with pytest.raises(CheckpointError, match=r"method_state\['counts'\]: a sparse tensor"):
        save_checkpoint(path, replace(checkpoint, method_state={"counts": torch.eye(3).to_sparse()}))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["checkpoint.pt"]


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.99])
def test_a_truncated_file_is_one_clear_error(tmp_path, checkpoint, kept):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, checkpoint)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt: not a readable checkpoint"):
        load_checkpoint(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"nowhere\.pt: there is no such checkpoint"):
        load_checkpoint(tmp_path / "nowhere.pt")


def test_a_flipped_bit_is_noticed(tmp_path, checkpoint):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, checkpoint)
    content = bytearray(path.read_bytes())
    content[content.index(checkpoint.network["weight"].numpy().tobytes()) + 2] ^= 64
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="does not match the checksum"):
        load_checkpoint(path)


class _Malicious:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (self.target,)


@pytest.mark.parametrize("plain_pickle", [False, True])
def test_code_in_a_file_is_not_run(tmp_path, plain_pickle):
    path, trap = tmp_path / "checkpoint.pt", tmp_path / "trap"
    content = {"format": 1, "network": _Malicious(str(trap))}
    if plain_pickle:
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path)
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        load_checkpoint(path)
    assert not trap.exists()


def test_foreign_and_newer_files_are_told_apart(tmp_path, checkpoint):
    path = tmp_path / "a.pt"
    torch.save({"state_dict": {}}, path)
    with pytest.raises(CheckpointError, match="no entry 'format'"):
        load_checkpoint(path)
    torch.save({"format": 99}, path)
    with pytest.raises(CheckpointError, match="format 99"):
        load_checkpoint(path)
    torch.save({"format": 1, "network": {}, "classes": [1]}, path)
    with pytest.raises(CheckpointError, match="lacks classes_per_step, method_state"):
        load_checkpoint(path)


@pytest.mark.parametrize("value", [torch.zeros(3), torch.tensor(1), True, "1", None])
def test_a_format_that_is_no_number_is_told(tmp_path, checkpoint, value):
    path = tmp_path / "a.pt"
    save_checkpoint(path, checkpoint)
    torch.save({**torch.load(path, weights_only=True), "format": value}, path)
    with pytest.raises(CheckpointError, match=r"a\.pt: not a Segue checkpoint \(its entry 'format' is no number\)"):
        load_checkpoint(path)


UNUSUAL = {
    "sparse": lambda: torch.eye(3).to_sparse(),
    "sparse rows": lambda: torch.eye(3).to_sparse_csr(),
    "quantised": lambda: torch.quantize_per_tensor(torch.eye(3), 0.1, 0, torch.qint8),
    "without content": lambda: torch.empty(3, 3, device="meta"),
}


@pytest.mark.parametrize("place", ["network", "method_state"])
@pytest.mark.parametrize("kind", UNUSUAL)
@pytest.mark.filterwarnings("ignore:Sparse")
def test_tensors_that_are_no_plain_numbers_are_named(tmp_path, checkpoint, kind, place):
    path = tmp_path / "a.pt"
    save_checkpoint(path, checkpoint)
    content = torch.load(path, weights_only=True)
    torch.save({**content, place: {**content[place], "odd": UNUSUAL[kind]()}}, path)
    with pytest.raises(CheckpointError, match=rf"a\.pt: not a readable checkpoint \(its tensor '{place}\.odd' is "):
        load_checkpoint(path)


@pytest.mark.parametrize("outputs", [[10**9], [2, 10**12], [2, -1], [10**30]])
def test_outputs_that_the_weights_do_not_have_are_refused_before_memory_is_asked_for(tmp_path, checkpoint, outputs):
    path = tmp_path / "a.pt"
    save_checkpoint(path, replace(checkpoint, classes_per_step=tuple(outputs)))
    with pytest.raises(
        CheckpointError, match=r"a\.pt: its entry 'classes_per_step' names -?\d+ outputs, which its weights"
    ):
        load_checkpoint(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_named(tmp_path, value):
    network = torch.nn.Linear(2, 3)
    state = network.state_dict() | {"bias": torch.tensor([0.0, value, 1.0])}
    with pytest.raises(
        CheckpointError, match=r"a\.pt: 1 of its 2 weights hold NaN or infinity \(bias\): the training div"
    ):
        load_network(network, state, tmp_path / "a.pt")


@pytest.mark.parametrize("key", [f.name for f in fields(Checkpoint)])
def test_an_entry_of_another_kind_is_named(tmp_path, checkpoint, key):
    path = tmp_path / "a.pt"
    save_checkpoint(path, checkpoint)
    content = torch.load(path, weights_only=True)
    torch.save({**content, key: "text"}, path)
    with pytest.raises(CheckpointError, match=f"its entry '{key}' is of another kind"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        ({"classes": [4, 1]}, "knows 3 classes, but 2 are expected"),
        ({"classes": [4, 7, 1]}, "in another order: place 1 holds class 1 instead of 7"),
        ({"classes": [4, 1, 8]}, "others than expected: place 2 holds class 7 instead of 8"),
        ({"step": 0}, "after step 1, not after step 0"),
        (
            {"network_arguments": {**ARGUMENTS, "backbone": "resnet18"}},
            "backbone = 'tiny', but the recipe says 'resnet18'",
        ),
        ({"network_arguments": {**ARGUMENTS, "channels": 8}}, "channels = None, but the recipe says 8"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(tmp_path, checkpoint, expected, message):
    good = {"classes": [4, 1, 7], "network_arguments": ARGUMENTS, "step": 1}
    verify_checkpoint(checkpoint, tmp_path / "c.pt", **good)
    with pytest.raises(CheckpointError, match=r"c\.pt: .*" + message):
        verify_checkpoint(checkpoint, tmp_path / "c.pt", **{**good, **expected})


def test_weights_must_fit_by_name_and_shape(tmp_path):
    path, network = tmp_path / "c.pt", nn.Linear(3, 2)
    good = nn.Linear(3, 2).state_dict()
    load_network(network, good, path)
    assert torch.equal(network.weight, good["weight"])
    with pytest.raises(CheckpointError, match=r"1 missing \(bias\); 1 unexpected \(scale\)"):
        load_network(network, {"weight": good["weight"], "scale": good["bias"]}, path)
    with pytest.raises(CheckpointError, match=r"bias \(5,\) instead of \(2,\)"):
        load_network(network, {**good, "bias": torch.zeros(5)}, path)
