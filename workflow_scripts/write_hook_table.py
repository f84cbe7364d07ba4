"""Write the table of who uses which hook into docs/add-a-method.md, between its two markers."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from model.common.command_line import run
from model.methods.base import Method
from model.methods.mask.base import MaskMethod
from model.methods.pixel.base import PixelMethod
from model.methods.registry import METHODS, Family, resolve

PAGE = Path("docs/add-a-method.md")
BEGIN, END = "<!-- hook table: begin -->", "<!-- hook table: end -->"
HOOKS = (
    "check",
    "grow",
    "trainable",
    "before_step",
    "forward",
    "targets",
    "losses",
    "after_backward",
    "after_update",
    "after_step",
    "predict",
)
FAMILIES = (Method, PixelMethod, MaskMethod)
"""What these define is every method's default, and no use of a hook."""


def overrides(method: type[Method[Any, Any]], hook: str) -> bool:
    """Whether a method's own classes define a hook."""
    return any(hook in vars(cls) for cls in method.__mro__ if issubclass(cls, Method) and cls not in FAMILIES)


def declarations(method: type[Method[Any, Any]]) -> list[str]:
    """What a method asks of the workflow, in words."""
    asked = []
    if method.needs_old_model:
        asked.append("old model")
    if method.memory_policy != "none":
        asked.append("memory, half of each batch" if method.replay_mixing == "half-batch" else "memory")
    if method.all_at_once:
        asked.append("all classes at once")
    if method.base_method is None:
        asked.append("own base step")
    elif method.base_method != "finetuning":
        asked.append(f"base step of {method.base_method}")
    if overrides(method, "needs_saliency"):
        asked.append("saliency maps")
    if overrides(method, "needs_future"):
        asked.append("numbers of future classes")
    return asked


def row(name: str, family: Family) -> str:
    """One line of the table."""
    method = resolve(name, family)
    marks = ["×" if overrides(method, hook) else "" for hook in HOOKS]
    return "| " + " | ".join([f"`{name}`", *marks, ", ".join(declarations(method)) or "–"]) + " |"


def hook_table() -> str:
    """The complete table, one line per method."""
    head = "| method | " + " | ".join(f"`{hook}`" for hook in HOOKS) + " | needs |"
    columns = " |" * (len(HOOKS) + 1)
    lines = [head, "|" + "---|" * (len(HOOKS) + 2)]
    lines += [row(name, "per-pixel") for name in sorted(METHODS["per-pixel"])]
    lines += [f"| *mask networks* |{columns}", *(row(name, "mask") for name in sorted(METHODS["mask"]))]
    return "\n".join(lines)


def main() -> None:
    """Parse the command line and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", type=Path, default=PAGE)
    page = parser.parse_args().page
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{hook_table()}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    run(main)
