"""The package and the configuration of docs/own-package.md, as they stand there, outside the project."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from model.common import fingerprints
from model.config.reading import parse_config
from model.data.prepared.dataset import PreparedDataset
from model.data.sources.prepare import prepare
from model.evaluation.job import load_evaluated
from model.networks import registry as networks
from model.networks.registry import UnknownNetworkError
from model.training.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from model.workflow.plan import Plan
from model.workflow.plan_jobs import plan_jobs

PROJECT = Path(__file__).resolve().parents[3]
PAGE = (PROJECT / "docs" / "own-package.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "elsewhere" / "my_package"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "parts.py").write_text(block("python"))
    monkeypatch.syspath_prepend(str(folder.parent))
    forget()
    yield folder
    for name in [name for name in sys.modules if name.split(".")[0] == "my_package"]:
        del sys.modules[name]
    forget()


def forget() -> None:
    """Fingerprints are remembered for the life of a process; here files change within one."""
    for function in vars(fingerprints).values():
        if hasattr(function, "cache_clear"):
            function.cache_clear()


def plan(tmp_path: Path) -> Plan:
    content = yaml.safe_load(block("yaml"))
    return Plan(parse_config({**content, "results": str(tmp_path / "results")}))


def test_a_plan_names_the_parts_and_paths_have_no_colon(package: Path, tmp_path: Path) -> None:
    found = plan(tmp_path)
    assert {run.method for run in found.runs} == {"half", "mib"}
    assert {t.spec["recipe"]["network"]["name"] for t in found.trainings.values()} == {"my_package.parts:TwoLayers"}
    assert not [name for name in (*found.trainings, *found.evaluations) if ":" in name]


def test_its_source_is_part_of_the_code_of_what_uses_it(package: Path, tmp_path: Path) -> None:
    found = plan(tmp_path)

    def codes() -> dict[str, dict[str, str]]:
        forget()
        return {job.name: dict(job.code) for job in plan_jobs(found, tmp_path / "results")}

    before = codes()
    (package / "parts.py").write_text(block("python").replace("width: int = 8", "width: int = 9"))
    after = codes()
    changed = {name for name in before if before[name] != after[name]}
    assert {*found.trainings, *found.evaluations, "data/mine/dataset.json"} <= changed
    assert not changed & {*found.splits, "data/mine/class_index.npz", "tables"}


def test_the_parts_work_together(package: Path, tmp_path: Path) -> None:
    """Prepare, build, grow, evaluate the loss: what a training does with them."""
    prepare("my_package.parts:Larger", {}, tmp_path / "data", name="mine")
    dataset = PreparedDataset.open(tmp_path / "data")
    assert len(dataset.categories) == 6 and len(dataset.records("train")) == 8
    network = networks.build("my_package.parts:TwoLayers", [4], {"width": 4})
    network.grow(2)  # type: ignore[operator]
    assert network(torch.zeros(1, 3, 8, 8)).logits.shape == (1, 7, 8, 8)
    with pytest.raises(UnknownNetworkError, match="has no argument 'widht'"):
        networks.build("my_package.parts:TwoLayers", [4], {"widht": 4})
    with pytest.raises(UnknownNetworkError, match="cannot be imported"):
        networks.build("my_package.parts:Three", [4], {})


def test_a_checkpoint_cannot_choose_code(package: Path, tmp_path: Path) -> None:
    step = next(t for t in plan(tmp_path).trainings.values() if t.shared).split.step
    network = networks.build("my_package.parts:TwoLayers", [4], {"width": 4})
    stored = Checkpoint(network.state_dict(), step.seen, (4,), 0, {"name": "my_package.parts:TwoLayers", "width": 4})
    save_checkpoint(tmp_path / "a.pt", stored)
    for name in [name for name in sys.modules if name.split(".")[0] == "my_package"]:
        del sys.modules[name]
    with pytest.raises(CheckpointError, match="comes from another package, and code that a file names is not run"):
        load_evaluated(tmp_path / "a.pt", step)
    assert "my_package.parts" not in sys.modules
    assert load_evaluated(tmp_path / "a.pt", step, "my_package.parts:TwoLayers") is not None
    save_checkpoint(
        tmp_path / "b.pt", replace(load_checkpoint(tmp_path / "a.pt"), network_arguments={"name": "os:system"})
    )
    with pytest.raises(CheckpointError, match="'os:system' comes from another package"):
        load_evaluated(tmp_path / "b.pt", step, "my_package.parts:TwoLayers")
