"""The site of tables alone: names are text on every page, and a folder of the user's is left as it is."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from model.common.own_folders import ForeignFolderError
from model.reporting.costs import COST_COLUMNS
from model.reporting.published import PublishedResults
from model.reporting.site.pages import SiteContent, write_site
from model.reporting.summary import summarise
from model.reporting.summary_tables import summary_tables
from model.reporting.tables import CLASS_COLUMNS, METRIC_COLUMNS

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


class Elements(HTMLParser):
    """Tags and event handlers as a browser finds them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts = self.images = 0
        self.handlers: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        self.images += tag == "img"
        self.handlers += [name for name, _ in attributes if name.startswith("on")]


def content(method: str, name: str = "cat") -> SiteContent:
    identity = ("toy", "semantic", "2-1", "overlapped", "tiny", method, 0)
    metrics = [(*identity, step, "segue", "all", "mIoU", 50.0 - step) for step in (0, 1)]
    classes = [(*identity, step, "segue", "past", name, "IoU", 50.0 - step) for step in (0, 1)]
    table = pd.DataFrame(metrics, columns=list(METRIC_COLUMNS))
    costs = pd.DataFrame([(*identity, *(1 for _ in COST_COLUMNS[7:]))], columns=list(COST_COLUMNS))
    summary = summary_tables(summarise(table, PublishedResults.empty()), costs)
    return SiteContent(name, table, pd.DataFrame(classes, columns=list(CLASS_COLUMNS)), costs, summary, [])


def test_names_are_text_on_every_page(tmp_path: Path) -> None:
    write_site(content(EVIL, EVIL), tmp_path / "evil")
    write_site(content("mib"), tmp_path / "good")
    pages = sorted(path.name for path in (tmp_path / "good").glob("*.html"))
    assert pages == ["classes.html", "costs.html", "curves.html", "index.html", "values.html"]
    for page in pages:
        evil, good = (Elements((tmp_path / site / page).read_text(encoding="utf-8")) for site in ("evil", "good"))
        assert (evil.scripts, evil.images, evil.handlers) == (good.scripts, 0, [])


def test_a_folder_of_the_user_is_left_as_it_is(tmp_path: Path) -> None:
    mine = tmp_path / "mine/pictures/holiday.png"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"x")
    with pytest.raises(ForeignFolderError, match="was not made by Segue"):
        write_site(content("mib"), tmp_path / "mine")
    assert [path for path in (tmp_path / "mine").rglob("*") if path.is_file()] == [mine]


def test_a_site_can_be_written_again(tmp_path: Path) -> None:
    write_site(content("mib"), tmp_path / "site")
    write_site(content("plop"), tmp_path / "site")
    assert "plop" in (tmp_path / "site/index.html").read_text(encoding="utf-8")
