"""Write docs/troubleshooting.md from the cases of the bad-input test."""

from pathlib import Path

from catalogue import page

if __name__ == "__main__":
    Path("docs/troubleshooting.md").write_text(page(), encoding="utf-8")
