"""Files in the place of a trained step: what they have to be, and the line for each way in which they are not."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from official_networks import NETWORKS, stored
from official_networks import write as write_released
from safetensors.torch import save_file
from stored_networks import stored_network

from model.common.provenance import checksum
from model.interop.importing import import_checkpoint
from model.interop.official_names import official_state
from model.interop.safetensors_files import write_safetensors
from model.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

CLASSES = (3, 1, 7, 5, 2)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    path = stored_network(tmp_path_factory.mktemp("own"), "semantic", CLASSES, method="mib", steps=(3, 2))
    return replace(load_checkpoint(path), method_state={"counts": torch.arange(3)})


def job(checkpoint: Checkpoint, file: Path, form: str, **changes: Any) -> dict[str, Any]:
    found = {
        **{"dataset": "shapes", "task": "semantic"},
        "step": {"index": 1, "past": list(CLASSES[:3]), "current": list(CLASSES[3:])},
        "method": {"name": "mib", "hyper_parameters": {}},
        "recipe": {"family": "per-pixel", "network": dict(checkpoint.network_arguments)},
        "imported": {
            **{"format": form, "classes_per_step": [3, 2]},
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "0" * 64,
        },
    }
    return {**found, **changes}


def write(path: Path, checkpoint: Checkpoint, form: str) -> None:
    if form == "segue":
        save_checkpoint(path, checkpoint)
    elif form == "safetensors":
        write_safetensors(path, checkpoint)
    else:
        torch.save({"model_state": official_state(checkpoint, form)}, path)


@pytest.mark.parametrize("form", ["segue", "safetensors", "mib"])
def test_the_step_is_the_one_that_was_stored(tmp_path: Path, own: Checkpoint, form: str) -> None:
    file = tmp_path / ("a.safetensors" if form == "safetensors" else "a.pth")
    write(file, own, form)
    found = import_checkpoint(file, job(own, file, form))
    assert (found.classes, found.classes_per_step, found.step) == (CLASSES, (3, 2), 1)
    for key, value in own.network.items():
        if not key.endswith("num_batches_tracked"):
            assert torch.equal(found.network[key], value), key
    assert ("counts" in found.method_state) == (form != "mib")


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("owned",)


def halved(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def hostile(file: Path) -> None:
    torch.save({"model_state": {"cls.0.bias": torch.zeros(4)}, "x": Hostile()}, file)


def hostile_pickle(file: Path) -> None:
    file.write_bytes(pickle.dumps({"model": Hostile()}))


DAMAGES: list[tuple[str, Callable[[Path], object], str]] = [
    ("mib", Path.unlink, "there is no such file; put it there"),
    ("mib", halved, "cannot be read as weights"),
    (
        "mib",
        hostile,
        "refers to '[a-z]+.mkdir', which is neither a tensor nor a plain value; nothing in it was executed",
    ),
    ("segue", halved, "not a readable checkpoint"),
    ("segue", hostile, "not a readable checkpoint"),
    ("safetensors", halved, "cannot be read as safetensors"),
]


@pytest.mark.parametrize(("form", "damage", "said"), DAMAGES)
def test_a_damaged_or_hostile_file_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    own: Checkpoint,
    form: str,
    damage: Callable[[Path], object],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / ("a.safetensors" if form == "safetensors" else "a.pth")
    write(file, own, form)
    damage(file)
    refused(file, job(own, file, form), said)
    assert not (tmp_path / "owned").exists()


def test_a_pickle_that_runs_code_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: Checkpoint) -> None:
    monkeypatch.chdir(tmp_path)
    hostile_pickle(tmp_path / "a.pkl")
    refused(
        tmp_path / "a.pkl", job(own, tmp_path / "a.pkl", "mib"), "mkdir', which is neither an array nor a container"
    )
    assert not (tmp_path / "owned").exists()


def test_another_file_than_described_is_one_line(tmp_path: Path, own: Checkpoint) -> None:
    file = tmp_path / "a.pth"
    write(file, own, "mib")
    spec = job(own, file, "mib")
    file.write_bytes(file.read_bytes() + b" ")
    refused(file, spec, "its SHA-256 is [0-9a-f]{64}, but the configuration says [0-9a-f]{64}")


@pytest.mark.parametrize("form", ["segue", "safetensors"])
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"step": {"index": 1, "past": [3, 1, 7], "current": [2, 5]}},
            "classes are in another order: place 3 holds class 5",
        ),
        ({"step": {"index": 1, "past": [3, 1, 7], "current": [5]}}, "knows 5 classes, but 4 are expected"),
        ({"step": {"index": 2, "past": [3, 1, 7], "current": [5, 2]}}, "was written after step 1, not after step 2"),
        (
            {"recipe": {"network": {"name": "deeplabv3", "backbone": "tiny", "channels": 32}}},
            "its network has channels = 64",
        ),
    ],
)
def test_own_checkpoints_are_refused_with_the_first_difference(
    tmp_path: Path, own: Checkpoint, form: str, changes: dict[str, Any], said: str
) -> None:
    file = tmp_path / "a.safetensors"
    write(file, own, form)
    refused(file, job(own, file, form, **changes), said)


@pytest.mark.parametrize(
    ("per_step", "said"),
    [
        ([3, 3], r"cls\.1\.weight is \(2, 64, 1, 1\), expected \(3, 64, 1, 1\)"),
        ([3], r"not in the network: cls\.1"),
    ],
)
def test_released_weights_of_other_classes_are_refused(
    tmp_path: Path, own: Checkpoint, per_step: list[int], said: str
) -> None:
    file = tmp_path / "a.pth"
    write(file, own, "mib")
    spec = job(own, file, "mib")
    spec["imported"]["classes_per_step"] = per_step
    refused(file, spec, said)


def test_missing_weights_are_named(tmp_path: Path, own: Checkpoint) -> None:
    file = tmp_path / "a.pth"
    state = official_state(own, "mib")
    del state["head.map_bn.weight"]
    torch.save(state, file)
    refused(file, job(own, file, "mib"), r"1 missing: aspp\.map_bn\.weight")


def without_first(state: dict[str, Any]) -> dict[str, Any]:
    """The first weights are missing."""
    return dict(list(state.items())[1:])


def described(form: str, file: Path) -> dict[str, Any]:
    """The job that a file of a format stands for."""
    arguments, counts = NETWORKS[form]
    classes, past = list(range(1, sum(counts) + 1)), sum(counts[:-1])
    return {
        "step": {"index": len(counts) - 1, "past": classes[:past], "current": classes[past:]},
        "recipe": {"network": arguments},
        "imported": {"format": form, "sha256": checksum(file), "classes_per_step": counts},
    }


@pytest.mark.parametrize("suffix", [".pth", ".pkl", ".safetensors"])
@pytest.mark.parametrize("form", NETWORKS)
def test_every_problem_of_every_format_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, suffix: str
) -> None:
    """Each file is right but for one thing."""
    monkeypatch.chdir(tmp_path)
    file, state = tmp_path / f"released{suffix}", official_state(stored(form), form)

    def written(weights: dict[str, Any]) -> dict[str, Any]:
        if suffix == ".safetensors":
            save_file({key: value.clone() for key, value in weights.items()}, file)
        else:
            write_released(file, form, weights)
        return described(form, file)

    import_checkpoint(file, written(state))
    refused(file, written(without_first(state)), "the weights do not fit the network \\(1 missing: ")
    refused(file, written({**state, "extra.weight": torch.ones(2)}), "1 not in the network: extra.weight")
    spec = written(state)
    if form == "simcis":
        spec["recipe"] = {"network": {**spec["recipe"]["network"], "classes": 7}}
    else:
        spec["imported"]["classes_per_step"] = [*spec["imported"]["classes_per_step"][:-1], 4]
    refused(file, spec, r"of another shape: \S*(cls|class|head)\S* is \(\d+(, \d+)*,?\), expected \(\d+")
    spec["imported"]["sha256"] = "0" * 64
    refused(file, spec, f"its SHA-256 is {checksum(file)}, but the configuration says 0{{64}}")
    halved(file)
    refused(file, described(form, file), "cannot be read as weights")
    if suffix != ".safetensors":  # which hold no objects
        (hostile if suffix == ".pth" else hostile_pickle)(file)
        refused(file, described(form, file), "mkdir', which is neither .*; nothing in it was executed")
        assert not (tmp_path / "owned").exists()
    spec = described(form, file)
    file.unlink()
    refused(file, spec, "there is no such file; put it there, or correct 'file' in the configuration")


def refused(file: Path, spec: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said) as error:
        import_checkpoint(file, spec)
    assert file.name in str(error.value) and "\n" not in str(error.value)
