"""The example of docs/add-a-dataset.md does what it says."""

import re
import runpy
from pathlib import Path

import numpy as np
import pytest

from model.config.reading import load_config
from model.data.prepared.class_index import build_class_index
from model.data.prepared.dataset import PreparedDataset
from model.data.sources import registry as sources
from model.data.sources.prepare import prepare
from model.workflow.plan import Plan

PROJECT = Path(__file__).resolve().parents[4]


def test_the_twenty_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (PROJECT / "docs/add-a-dataset.md").read_text(encoding="utf-8").partition("twenty images")[2]
    code, configuration = (re.search(rf"```{kind}\n(.*?)```", text, re.DOTALL)[1] for kind in ("python", "yaml"))  # type: ignore[index]
    monkeypatch.chdir(tmp_path)
    Path("make.py").write_text(code, encoding="utf-8")
    Path("twenty.yaml").write_text(configuration, encoding="utf-8")
    runpy.run_path("make.py")
    config = load_config(Path("twenty.yaml"), PROJECT / "config/recipes")
    assert len(Plan(config).runs) == 2
    entry = config.datasets["twenty"]
    assert sources.missing(entry.kind, entry.options) == []
    prepare(entry.kind, entry.options, tmp_path / "out", name="twenty")
    dataset = PreparedDataset.open(tmp_path / "out")
    assert [len(dataset.records(split)) for split in ("train", "val")] == [14, 6]
    assert {c.name: c.isthing for c in dataset.categories} == {"sky": False, "ground": False, "ball": True}
    index = build_class_index(dataset, "train")
    assert (index.counts("semantic") == 1).all() and index.counts("instance")[:, 2].tolist() == [2] * 14
    record = dataset.record("train", "00")
    assert set(np.unique(dataset.read_semantic("train", record))) == {1, 2, 3}
