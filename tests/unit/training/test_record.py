import json
import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from model.training.record import git_state, machine, op_implementation, peak_memory, versions
from ops.library import Implementation

CPU = torch.device("cpu")


def test_versions_name_what_results_depend_on():
    found = versions()
    assert found["torch"] == torch.__version__.split("+")[0] or found["torch"] == torch.__version__
    assert {"python", "numpy", "torchvision"} <= found.keys()


def test_the_machine_is_described():
    found = machine(CPU)
    assert found["device"] == "cpu" and found["cuda"] is None
    assert found["cpu"].strip() and found["threads"] >= 1 and found["cores"] >= 1
    assert json.loads(json.dumps(found)) == found  # it goes into train.json


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux to know the memory in use")
def test_peak_memory_is_at_least_what_is_in_use():
    block = b"\1" * 30_000_000
    resident_pages = int(Path("/proc/self/statm").read_text().split()[1])
    in_use = resident_pages * resource.getpagesize()
    peak = peak_memory(CPU)["resident_bytes"]  # the two counters of the kernel are updated at different times
    assert max(len(block), 0.9 * in_use) < peak < 64 * in_use


def test_git_state_tells_revision_and_changes(tmp_path):
    assert git_state(tmp_path) == {"revision": None, "dirty": None}

    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        return subprocess.run(
            ["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True, text=True
        )

    git("init", "-q")
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "-qm", "one")
    state = git_state(tmp_path)
    assert state == {"revision": git("rev-parse", "HEAD").stdout.strip(), "dirty": False}
    (tmp_path / "file").write_text("two")
    assert git_state(tmp_path)["dirty"] is True


def test_the_op_is_recorded_where_it_is_used(monkeypatch):
    monkeypatch.delitem(sys.modules, "ops.library", raising=False)
    assert op_implementation() is None
    monkeypatch.setitem(sys.modules, "ops.library", SimpleNamespace(IMPLEMENTATION=Implementation("pytorch")))
    assert op_implementation() == "pytorch"
