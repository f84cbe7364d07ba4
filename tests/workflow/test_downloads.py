"""The download rule: a broken connection to a server of small archives, and everything up to the splits."""

import hashlib
from pathlib import Path

import pytest
import timm
import torch
from archive_server import Offer, serving
from checkout import fresh_checkout
from raw_layouts import packed, write_ade20k

from model.data.download.archives import Archive, official_archives
from model.data.prepared.dataset import PreparedDataset

CONFIG = """
schema_version: 1
results: results
datasets:
  ade: {kind: ade20k, root: raw/ade, download: true, complete: false}
experiments:
  - {dataset: ade, scenarios: [100-50], recipe: deeplabv3-micro, methods: [finetuning]}
"""
COLUMNS = "name,kind,file,url,bytes,checksum,part,into,nested,gives"


def table(archives: list[Archive], offer: Offer, wrong: str = "") -> str:
    """The official table for small archives of other contents."""
    rows = [COLUMNS]
    for one in archives:
        digest = hashlib.sha256(offer.files[one.file]).hexdigest() if one.name != wrong else "0" * 64
        gives = " ".join(one.gives)
        rows.append(f"{one.name},ade20k,{one.file},{one.url},,sha256:{digest},{one.part},{one.into},,{gives}")
    return "\n".join(rows) + "\n"


def test_the_rule_fetches_what_is_missing_over_a_bad_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = tmp_path / "there"
    write_ade20k(there, {"training": 4, "validation": 2})
    archives = [official_archives()[name] for name in ("ade20k-scenes", "ade20k-instances")]
    offer = Offer({one.file: packed(there, one) for one in archives}, breaks=[50, None])
    checkout = fresh_checkout(tmp_path / "checkout")
    (checkout.folder / "ade.yaml").write_text(CONFIG)
    monkeypatch.setenv("SEGUE_ARCHIVES", str(tmp_path / "table.csv"))
    with serving(offer) as address:
        monkeypatch.setenv("SEGUE_MIRROR", address)
        (tmp_path / "table.csv").write_text(table(archives, offer, wrong="ade20k-instances"))
        target = "results/data/ade/dataset.json"
        refused = checkout.snakemake("--nolock", target, config="ade.yaml")
        assert refused.returncode != 0
        assert "annotations_instance.tar.part has sha256:" in refused.stderr + refused.stdout
        (tmp_path / "table.csv").write_text(table(archives, offer))
        raw = checkout.folder / "raw/ade"
        assert (raw / "archives/ade20k-scenes.json").is_file() and not (raw / "archives/ade20k-instances.json").exists()
        part = checkout.snakemake("--nolock", target, config="ade.yaml")
    log = (checkout.folder / "results/logs/data/ade/prepare.log").read_text()
    assert part.returncode != 0 and "is not complete" in log and "officially 20,210" in log
    assert len(offer.asked) == 4  # the first one twice, the second one wrong and right
    (checkout.folder / "ade.yaml").write_text(CONFIG.replace("download: true, ", ""))
    done = checkout.snakemake("--nolock", target, config="ade.yaml")
    assert done.returncode == 0, done.stderr + done.stdout
    dataset = PreparedDataset.open(checkout.folder / "results/data/ade")
    assert len(dataset.records("train")) == 4 and dataset.tasks == ("semantic", "panoptic", "instance")
    assert checkout.planned(target, config="ade.yaml") == set()


RECIPE = """
schema_version: 1
results: results
datasets:
  shapes: {kind: shapes}
recipes:
  fetched:
    extends: deeplabv3-micro
    network:
      backbone: timm/test_resnet
      output_stride: 32
      weights: {file: weights/test_resnet.pth, url: https://example.org/test_resnet.pth, sha256: SHA, source: timm}
experiments:
  - {dataset: shapes, scenarios: [6-2], recipe: fetched, methods: [finetuning]}
"""


def test_published_weights_are_fetched_and_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "published.pth")
    content = (tmp_path / "published.pth").read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    checkout = fresh_checkout(tmp_path / "checkout")
    file = checkout.folder / "weights/test_resnet.pth"
    with serving(Offer({"weights/test_resnet.pth": content})) as address:
        monkeypatch.setenv("SEGUE_MIRROR", address)
        for begins, fetched in ((f"{'0' * 8}", False), (digest[:8], True)):
            (checkout.folder / "fetched.yaml").write_text(RECIPE.replace("SHA", f"'{begins}'"))
            done = checkout.snakemake("--nolock", "weights/test_resnet.pth", config="fetched.yaml")
            assert (done.returncode == 0) == file.is_file() == fetched, done.stderr + done.stdout
    assert "has sha256:" not in done.stderr
    planned = checkout.planned(config="fetched.yaml")
    rules = {job.rule for job in planned}
    assert "train_base" in rules and "fetch_weights" not in rules
