"""What values the arguments of networks may have; :mod:`model.networks.registry` checks them before anything is built."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

Channels = Annotated[int, Field(ge=1, le=16_384)]
"""Width of a layer. The upper bound is far above any published network; a typing error beyond it would ask for terabytes."""
Count = Annotated[int, Field(ge=1, le=100_000)]
"""How many layers, heads, queries, points or prompts."""
Momentum = Annotated[float, Field(ge=0, le=1)]
"""Of running statistics."""
Probability = Annotated[float, Field(ge=0, lt=1)]
"""Of dropping a value."""
Dilations = Annotated[Sequence[Annotated[int, Field(ge=1)]], Field(min_length=1)]
