"""The results site in a real browser: it sorts, filters and slides, and asks for nothing from elsewhere."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from checkout import Checkout

PAGES = ("index", "values", "curves", "pictures", "classes", "costs", "origins")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def write_site(checkout: Checkout, config: str, out: Path) -> None:
    """Write the site of finished results.

    Raises:
        AssertionError: with what was printed, if that fails.
    """
    command = [sys.executable, "workflow_scripts/write_site.py", "--configfile", config, "--out", str(out)]
    done = subprocess.run(command, cwd=checkout.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout


@pytest.fixture(scope="module")
def site(micro: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "a folder"
    write_site(micro, "config/micro.yaml", folder)
    return folder


def test_every_page_is_there_and_names_nothing_that_is_not(site: Path) -> None:
    assert {path.stem for path in site.glob("*.html")} == set(PAGES)
    for page in site.glob("*.html"):
        text = page.read_text(encoding="utf-8")
        for address in re.findall(r'(?:src|href)="([^"]+)"', text):
            assert address.startswith("data:") or (site / address).is_file(), f"{page.name} names {address}"


def test_a_number_can_be_followed_to_its_origin(site: Path, micro: Checkout) -> None:
    text = (site / "origins.html").read_text(encoding="utf-8")
    assert text.count('<details class="origin">') == 13  # runs and steps
    assert "distillation_weight" in text and "Git revision" in text and "torch" in text


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: no browser is driven")
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed: the site is not opened in a browser")
    with sync.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield found
        found.close()


class Visit:
    """A page in a browser, with whatever it complained about and asked for."""

    def __init__(self, browser: Any, site: Path, page: str, **context: Any) -> None:
        self.page = browser.new_context(**context).new_page()
        self.page.set_default_timeout(60_000)
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("dialog", lambda dialog: (self.said.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        self.page.goto((site / f"{page}.html").as_uri())

    def column(self, name: str) -> list[str]:
        """Texts of a column of the table, as shown."""
        heads = [text.strip() for text in self.page.locator(".dt-scroll-head th").all_inner_texts()]
        heads = [head for head in heads if head]  # those of the panes are empty
        cells = self.page.locator(f"#values tbody td:nth-child({heads.index(name) + 1})")
        return [str(text) for text in cells.all_inner_texts()]

    def check(self) -> None:
        """Raises AssertionError if the page complained, or asked for anything outside its folder."""
        assert not self.said
        assert not [url for url in self.asked if not url.startswith(("file:", "data:", "blob:"))]


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("context", [{"viewport": {"width": 400, "height": 800}}, {"color_scheme": "dark"}], ids=str)
def test_pages_fit_the_screen_and_complain_about_nothing(
    browser: Any, site: Path, page: str, context: dict[str, Any]
) -> None:
    visit = Visit(browser, site, page, **context)
    if page in ("values", "costs"):
        visit.page.wait_for_selector("#values[data-ready]")
    if page in ("curves", "classes"):
        visit.page.wait_for_selector(".plot svg.main-svg")
    wide, screen = visit.page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert wide <= screen
    visit.check()


def test_values_are_sorted_and_filtered(browser: Any, site: Path) -> None:
    visit = Visit(browser, site, "values")
    visit.page.wait_for_selector("#values[data-ready]")
    head = visit.page.locator(".dt-scroll-head th", has_text="value")
    for descending in (False, True):
        head.click()
        values = [float(text) for text in visit.column("value")]
        assert len(values) == 25 and values == sorted(values, reverse=descending)
    assert len(set(visit.column("method"))) > 1
    pane = visit.page.locator(".dtsp-searchPane", has=visit.page.locator('input[placeholder="method"]'))
    pane.locator(".dtsp-collapseButton").click()
    pane.locator("td", has_text=re.compile("^mib")).click()
    assert set(visit.column("method")) == {"mib"}
    visit.page.locator(".dt-search input").fill("forgetting")
    assert set(visit.column("metric")) == {"forgetting"} and set(visit.column("method")) == {"mib"}
    visit.check()


def test_curves_show_the_table_and_methods_can_be_hidden(browser: Any, site: Path, micro: Checkout) -> None:
    visit = Visit(browser, site, "curves")
    visit.page.wait_for_selector(".plot svg.main-svg")
    shown = "[...document.querySelector('.plot').data].map(t => [t.name, t.visible, Array.from(t.y)])"
    methods = {name: values for name, _, values in visit.page.evaluate(shown)}
    summary = (micro.folder / "results/tables/summary.md").read_text()
    assert set(methods) == {"joint", "finetuning", "finetuning-replay", "mib", "lwf"}
    assert f"{methods['mib'][-1]:.2f}" in next(line for line in summary.splitlines() if line.startswith("| mib"))
    visit.page.locator(".legendtoggle").first.click()
    visit.page.wait_for_function("document.querySelector('.plot').data.some(t => t.visible === 'legendonly')")
    visit.page.locator("select.group").first.select_option("old")
    hidden = [name for name, visible, _ in visit.page.evaluate(shown) if visible == "legendonly"]
    assert len(hidden) == 1, "what was hidden stays hidden"
    visit.check()


def test_the_slider_shows_another_step_and_methods_stand_side_by_side(browser: Any, site: Path) -> None:
    visit = Visit(browser, site, "pictures")
    pictures = visit.page.locator("tbody tr").first.locator("td[data-method='mib'] img")
    last = pictures.get_attribute("src")
    slider = visit.page.locator("input[type=range]").first
    slider.focus()
    slider.press("Home")
    assert visit.page.locator("output").first.inner_text() == "0"
    first = pictures.get_attribute("src")
    assert first != last and all((site / str(name)).is_file() for name in (first, last))
    columns = visit.page.locator("thead th:visible")
    before = columns.count()
    visit.page.locator("input[value=mib]").first.uncheck()
    assert columns.count() == before - 1
    loaded = "[...document.images].every(image => image.complete && image.naturalWidth > 0)"
    visit.page.wait_for_function(loaded)
    visit.check()
