"""The table of who uses which hook, in docs/add-a-method.md, is what the classes say."""

from __future__ import annotations

from pathlib import Path

from model.methods.base import Method, PixelMethod
from model.methods.mask.base import MaskMethod
from model.methods.registry import METHODS, Family, resolve

PAGE = Path(__file__).parents[3] / "docs" / "add-a-method.md"
HOOKS = ("grow", "trainable", "before_step", "targets", "losses", "after_backward", "after_step", "predict")
FAMILIES = (Method, PixelMethod, MaskMethod)
"""What these say is every method's default, and no use of a hook."""


def overrides(method: type[Method], hook: str) -> bool:
    """Whether a method's own classes define a hook."""
    return any(hook in vars(cls) for cls in method.__mro__ if issubclass(cls, Method) and cls not in FAMILIES)


def declarations(method: type[Method]) -> list[str]:
    """What a method asks of the workflow, in words."""
    said = []
    if method.needs_old_model:
        said.append("old model")
    if method.memory_policy != "none":
        said.append("memory, half of each batch" if method.replay_mixing == "half-batch" else "memory")
    if method.all_at_once:
        said.append("all classes at once")
    if method.base_method is None:
        said.append("own base step")
    elif method.base_method != "finetuning":
        said.append(f"base step of {method.base_method}")
    if overrides(method, "needs_saliency"):
        said.append("saliency maps")
    return said


def rows(family: Family) -> list[str]:
    found = []
    for name in sorted(METHODS[family]):
        method = resolve(name, family)
        marks = ["×" if overrides(method, hook) else "" for hook in HOOKS]
        found.append("| " + " | ".join([f"`{name}`", *marks, ", ".join(declarations(method)) or "–"]) + " |")
    return found


def hook_table() -> str:
    head = "| method | " + " | ".join(f"`{hook}`" for hook in HOOKS) + " | asks for |"
    lines = [head, "|" + "---|" * (len(HOOKS) + 2), *rows("per-pixel")]
    columns = " |" * (len(HOOKS) + 1)
    return "\n".join([*lines, f"| *mask networks* |{columns}", *rows("mask")])


def test_the_table_in_the_documentation_is_up_to_date() -> None:
    assert hook_table() in PAGE.read_text(encoding="utf-8"), f"docs/add-a-method.md should have\n\n{hook_table()}"


def test_every_hook_is_used_by_some_method() -> None:
    methods = [resolve(name, family) for family in METHODS for name in METHODS[family]]
    assert all(any(overrides(method, hook) for method in methods) for hook in HOOKS)
