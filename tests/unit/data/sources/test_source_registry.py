from pathlib import Path

import pytest

from model.data.sources import registry as sources


def test_every_kind_resolves_to_its_own_module() -> None:
    for kind in sources.SOURCES:
        assert (Path("model") / "data" / "sources" / f"{kind}.py").as_posix().replace("/", ".")[
            :-3
        ] == sources.module_of(kind)
    assert sources.categories("shapes", {"stuff": 2, "things": 3})[0].id == 0
    assert len(sources.categories("ade20k", {"root": "nowhere"})) == 150
    assert sources.orders("shapes", {}, "semantic") == {}


def test_unknown_kinds_and_options_are_named(tmp_path: Path) -> None:
    with pytest.raises(sources.SourceError, match="unknown dataset kind 'shape'; did you mean 'shapes'"):
        sources.module_of("shape")
    with pytest.raises(sources.SourceError, match="has no option 'colour'"):
        sources.source("shapes", {"colour": 1})
    with pytest.raises(sources.SourceError, match="needs the option 'root'"):
        sources.source("ade20k", {})
    with pytest.raises(sources.SourceError, match=r"'x' cannot be prepared: folder .*gone does not exist"):
        sources.prepare("ade20k", {"root": str(tmp_path / "gone")}, tmp_path, name="x")


def test_other_code_prepares_from_nothing(tmp_path: Path) -> None:
    options = {"train_images": 3, "val_images": 1, "size": [32, 32]}
    folder = tmp_path / "toy"
    sources.prepare("shapes", options, folder, name="toy", code="one")
    left = folder / "semantic" / "train" / "left-over.png"
    left.write_bytes(b"")
    sources.prepare("shapes", options, folder, name="toy", code="one")
    assert left.exists()
    sources.prepare("shapes", options, folder, name="toy", code="two")
    assert not left.exists() and (folder / "dataset.json").exists()


def test_the_class_table_file_follows_what_was_prepared(tmp_path: Path) -> None:
    texts = set()
    for seed in (0, 1):
        options = {"train_images": 3, "val_images": 1, "size": [32, 32], "seed": seed}
        sources.prepare("shapes", options, tmp_path / str(seed), name="toy")
        texts.add((tmp_path / str(seed) / "dataset.json").read_text())
    assert len(texts) == 2
