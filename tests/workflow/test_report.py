"""Names and notes that would be script in a report are text there."""

import re
from html.parser import HTMLParser
from pathlib import Path

import yaml
from checkout import fresh_checkout
from raw_datasets import write_photos
from test_site import write_site

EVIL = "<script>alert(1)</script>"
NOTE = "</script><img src=x onerror=alert(2)> & **bold** \\input{/etc/passwd}"
CONFIG = "mine.yaml"
CONTENT = {
    "schema_version": 1,
    "datasets": {"photos": {"kind": "folder", "root": "photos"}},
    "experiments": [
        {
            "dataset": "photos",
            "scenarios": ["2-2"],
            "recipe": "deeplabv3-micro",
            "methods": ["finetuning"],
            "note": NOTE,
        },
    ],
    "gallery": {"images": 1},
}


class Elements(HTMLParser):
    """Scripts, event handlers and sources of images as a browser finds them."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.handlers: list[str] = []
        self._inside = False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self._inside = tag == "script"
        if self._inside:
            self.scripts.append("")
        self.handlers += [f"{tag} {value}" for name, value in attributes if name.startswith("on")]

    def handle_endtag(self, tag: str) -> None:
        self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.scripts[-1] += data


def elements(text: str) -> Elements:
    """What a browser finds in a page."""
    found = Elements()
    found.feed(text)
    return found


def test_a_page_with_the_same_text_unescaped_would_be_noticed():
    found = elements(f"<p>{EVIL}</p><p>{NOTE}</p>")
    assert found.scripts == ["alert(1)"] and found.handlers == ["img alert(2)"]


def test_names_and_notes_that_are_script_are_text_in_the_report(tmp_path: Path):
    checkout = fresh_checkout(tmp_path / "checkout")
    write_photos(checkout.folder / "photos")
    (checkout.folder / "photos/classes.txt").write_text(f"sky\n{EVIL}\nball\nbox\n")
    (checkout.folder / CONFIG).write_text(yaml.safe_dump(CONTENT))
    done = checkout.snakemake(config=CONFIG)
    assert done.returncode == 0, done.stderr + done.stdout
    done = checkout.snakemake("--report", str(tmp_path / "report.html"), config=CONFIG)
    assert done.returncode == 0, done.stderr + done.stdout

    text = (tmp_path / "report.html").read_text()
    found = elements(text)
    assert len(found.scripts) > 1, "the report has scripts of its own"
    assert not [script for script in found.scripts if script.strip().startswith("alert")]
    assert not [handler for handler in found.handlers if "alert" in handler]
    assert not re.search(r"<script>\s*alert|<img src=x", text)

    write_site(checkout, CONFIG, tmp_path / "site")
    for page in (tmp_path / "site").glob("*.html"):
        found = elements(page.read_text())
        assert not [script for script in found.scripts if script.strip().startswith("alert")] and not found.handlers
        assert not re.search(r"<script>\s*alert|<img src=x", page.read_text())
    assert "alert(2)" in (tmp_path / "site/index.html").read_text(), "the note is shown"
    assert "alert(1)" in (tmp_path / "site/classes.html").read_text(), "the class is shown"

    pages = [*checkout.folder.glob("results/figures/**/*.svg")]
    assert pages and any("alert(1)" in page.read_text() for page in pages), "the class is named in a figure"
    for page in pages:
        assert not elements(page.read_text()).scripts
    markdown = (checkout.folder / "results/tables/summary.md").read_text()
    latex = (checkout.folder / "results/tables/summary.tex").read_text()
    assert "alert(2)" in markdown and not re.search(r"(?<!\\)<", markdown), "every < is escaped by a backslash"
    assert "alert(2)" in latex and "\\input" not in latex
