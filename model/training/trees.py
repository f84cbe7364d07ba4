"""Tensors inside the outputs of networks and inside batches: finding them, and putting others in their places."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor


def replaced(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same value with other tensors; one that occurs twice is changed once.

    Args:
        value: nested dictionaries, lists, tuples and dataclasses; anything else is left as it is.
        change: of each tensor.
    """
    known: dict[int, Tensor] = {}

    def walk(part: Any) -> Any:
        if isinstance(part, Tensor):
            if id(part) not in known:
                known[id(part)] = change(part)
            return known[id(part)]
        if isinstance(part, Mapping):
            return {key: walk(item) for key, item in part.items()}
        if isinstance(part, list):
            return [walk(item) for item in part]
        if isinstance(part, tuple):
            items = [walk(item) for item in part]
            return type(part)(*items) if hasattr(part, "_fields") else tuple(items)
        if (is_dataclass(part) and not isinstance(part, type)) or isinstance(part, SimpleNamespace):
            other = copy.copy(part)
            vars(other).update({name: walk(item) for name, item in vars(part).items()})
            return other
        return part

    return walk(value)


def tensors_of(value: Any) -> list[Tensor]:
    """Every tensor inside a value once, in the order in which :func:`replaced` changes them."""
    found: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    replaced(value, note)
    return found


def with_tensors(value: Any, tensors: list[Tensor]) -> Any:
    """A value with tensors in the places of :func:`tensors_of`."""
    rest = iter(tensors)
    return replaced(value, lambda _: next(rest))


def images_of(batch: Any, rows: slice) -> Any:
    """Some images of a batch: rows of its tensors, and entries of what it lists for each image."""
    count = len(batch)
    other = copy.copy(batch)
    for name, value in vars(batch).items():
        if isinstance(value, Tensor | tuple | list) and len(value) == count:
            vars(other)[name] = value[rows]
    return other


def joined_batches(batches: list[Any]) -> Any:
    """One batch of several of equal kind, image after image."""
    first = batches[0]
    other = copy.copy(first)
    for name, value in vars(first).items():
        parts = [vars(batch)[name] for batch in batches]
        if isinstance(value, Tensor):
            vars(other)[name] = torch.cat(parts)
        elif isinstance(value, tuple | list):
            vars(other)[name] = type(value)(item for part in parts for item in part)
    return other
