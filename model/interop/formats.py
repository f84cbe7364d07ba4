"""Formats of checkpoints by name, as plain facts: planning reads them without loading torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

OWN_FORMATS = ("segue", "safetensors")
"""Of Segue: a checkpoint as a step leaves it, and as it is exported."""


@dataclass(frozen=True)
class OfficialFormat:
    """How an implementation stores a network.

    Attributes:
        project: whose names they are.
        networks: of the registry, that can be stored so.
        arguments: of these networks, with the values they have to have.
        container: entry of the file under which the released code looks for the weights.
        verified: whether names and shapes were compared with those of the released code.
        in_place_abn: whether names and scales are those of MiB's code, with in-place ABN.
    """

    project: str
    networks: tuple[str, ...]
    arguments: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    container: str = "model"
    verified: bool = True
    in_place_abn: bool = False


_MASK = ("mask2former",)
_MIB = {"head": ("mib",), "background": (True,), "auxiliary": (False,)}
_DKD = {"head": ("dkd",), "background": (False,)}


def _mib(project: str) -> OfficialFormat:
    return OfficialFormat(project, ("deeplabv3",), _MIB, "model_state", verified=False, in_place_abn=True)


FORMATS: Mapping[str, OfficialFormat] = {
    "mask2former": OfficialFormat("Mask2Former", _MASK, {"head": ("joint",)}),
    "balconpas": OfficialFormat("BalConpas", _MASK, {"head": ("steps",)}),
    "comformer": OfficialFormat("CoMFormer", _MASK, {"head": ("separate-no-object",)}),
    "eclipse": OfficialFormat("ECLIPSE", ("mask2former-eclipse",)),
    "simcis": OfficialFormat("SimCIS", ("mask2former-simcis",)),
    "dkd": OfficialFormat("DKD", ("deeplabv3",), {**_DKD, "auxiliary": (True,)}, "state_dict"),
    "star": OfficialFormat("STAR", ("deeplabv3",), {**_DKD, "auxiliary": (False,)}, "state_dict"),
    "ssul": OfficialFormat("SSUL", ("deeplabv3-ssul",), container="model_state"),
    "barm": OfficialFormat("BARM", ("deeplabv3-barm",), container="model_state"),
    "mib": _mib("MiB"),
    "plop": _mib("PLOP"),
    "sdr": _mib("SDR"),
}
"""Formats by the name of the method whose release uses them."""


def known_formats() -> tuple[str, ...]:
    """Names of all formats that can be imported."""
    return (*OWN_FORMATS, *FORMATS)
