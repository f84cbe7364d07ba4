"""Small networks that each released implementation has a counterpart of, by the name of its format."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from model.interop.formats import FORMATS
from model.networks import registry as networks
from model.training.checkpoint import Checkpoint

_DEEPLAB = {"backbone": "tiny", "channels": 32, "output_stride": 16}
_MASK = {
    **{"backbone": "tiny", "norm": "bn", "channels": 32, "encoder_layers": 1, "decoder_layers": 2},
    **{"encoder_feed_forward": 16, "decoder_feed_forward": 16, "queries": 5},
}
NETWORKS: dict[str, tuple[dict[str, Any], list[int]]] = {
    "mask2former": ({"name": "mask2former", "head": "joint", **_MASK}, [3]),
    "balconpas": ({"name": "mask2former", "head": "steps", **_MASK}, [3, 2]),
    "comformer": ({"name": "mask2former", "head": "separate-no-object", **_MASK}, [3, 2]),
    "eclipse": ({"name": "mask2former-eclipse", **_MASK}, [3, 2]),
    "simcis": ({"name": "mask2former-simcis", "classes": 5, **_MASK}, [3, 2]),
    "dkd": ({"name": "deeplabv3", "head": "dkd", "background": False, "auxiliary": True, **_DEEPLAB}, [3, 2]),
    "star": ({"name": "deeplabv3", "head": "dkd", "background": False, **_DEEPLAB}, [3, 2]),
    "ssul": ({"name": "deeplabv3-ssul", "backbone": "tiny", "channels": 32}, [3, 2]),
    "barm": ({"name": "deeplabv3-barm", "backbone": "tiny", "channels": 32}, [3, 2]),
    "mib": ({"name": "deeplabv3", **_DEEPLAB}, [3, 2]),
    "plop": ({"name": "deeplabv3", **_DEEPLAB}, [3, 2]),
    "sdr": ({"name": "deeplabv3", "head_activation": "identity", **_DEEPLAB}, [3, 2]),
}


def built(form: str, seed: int = 0, classes: list[int] | None = None) -> tuple[nn.Module, dict[str, Any]]:
    """A network of a format with random values everywhere, and its arguments."""
    arguments, counts = NETWORKS[form]
    torch.manual_seed(seed)
    network = networks.build(arguments["name"], classes or counts, {k: v for k, v in arguments.items() if k != "name"})
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                value.copy_(torch.rand(value.shape, generator=generator) + 0.01 + ("var" in name))
    return network, arguments


def stored(form: str, seed: int = 0) -> Checkpoint:
    """A checkpoint with this network, after the last of its steps."""
    network, arguments = built(form, seed)
    counts = NETWORKS[form][1]
    classes = tuple(range(1, sum(counts) + 1))
    return Checkpoint(network.state_dict(), classes, tuple(counts), len(counts) - 1, arguments)


def write(path: Path, form: str, state: dict[str, Tensor]) -> None:
    """Weights as the released code of a format stores them, by the ending of the file."""
    if path.suffix == ".pkl":
        path.write_bytes(pickle.dumps({"model": {key: value.numpy() for key, value in state.items()}}))
    else:
        torch.save({FORMATS[form].container: state, "epoch": 30, "optimizer_state": {}}, path)
