from pathlib import Path

import pytest

from model.datasets import sources


def test_every_kind_resolves_to_its_own_module() -> None:
    for kind in sources.SOURCES:
        assert (Path("model") / "datasets" / f"{kind}.py").as_posix().replace("/", ".")[:-3] == sources.module_of(kind)
    assert sources.categories("shapes", {"stuff": 2, "things": 3})[0].id == 0
    assert len(sources.categories("ade20k", {"root": "nowhere"})) == 150
    assert sources.orders("shapes", {}, "semantic") == {}


def test_unknown_kinds_and_options_are_named(tmp_path: Path) -> None:
    with pytest.raises(sources.SourceError, match="'shape' does not exist; did you mean 'shapes'"):
        sources.module_of("shape")
    with pytest.raises(sources.SourceError, match="has no option 'colour'"):
        sources.source("shapes", {"colour": 1})
    with pytest.raises(sources.SourceError, match="needs the option 'root'"):
        sources.source("ade20k", {})
    with pytest.raises(sources.SourceError, match=r"'x' cannot be prepared: folder .*gone does not exist"):
        sources.prepare("ade20k", {"root": str(tmp_path / "gone")}, tmp_path, name="x")
