"""Multi-scale deformable attention: the compiled operator against the grid_sample formulation.

    python benchmarks/ms_deform_attn.py --device cpu --json timings.json

Two geometries: ``m2f`` is Mask2Former on a 640 × 640 crop (strides 32, 16 and 8), ``tiny`` that of small CPU recipes, whose
calls take less than a millisecond and are timed a hundred at a time. Locations are local, as a trained network's are (pixel
centres, plus 1 to 4 pixels in a direction for each head, plus a pixel of noise), or uniform in [-0.05, 1.05] (suffix
``-uniform``). A type other than float32 is a suffix too; the baseline then runs in float32, because grid_sample wants locations
of the value's type and locations in half precision are off by pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import paired
import torch
from torch import Tensor

import ops
from ops.grid_sample import sample_and_sum
from ops.library import IMPLEMENTATION


@dataclass(frozen=True)
class Geometry:
    """Levels (height, width), heads, channels of a head; 4 points and as many queries as positions."""

    shapes: tuple[tuple[int, int], ...]
    heads: int
    channels: int


GEOMETRIES = {
    "m2f": Geometry(((20, 20), (40, 40), (80, 80)), 8, 32),
    "tiny": Geometry(((4, 4), (8, 8), (16, 16)), 4, 16),
}
POINTS = 4


def local_locations(geometry: Geometry, batch: int, generator: torch.Generator) -> Tensor:
    """(B, Lq, H, L, P, 2) as the initialisation of a deformable layer places them, with a pixel of noise."""
    centres = []
    for height, width in geometry.shapes:
        y, x = torch.meshgrid((torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij")
        centres.append(torch.stack([x, y], dim=-1).flatten(0, 1))
    reference = torch.cat(centres)[None, :, None, None, None]
    angles = torch.arange(geometry.heads) * (2 * math.pi / geometry.heads)
    directions = torch.stack([angles.cos(), angles.sin()], dim=-1)
    directions = directions / directions.abs().amax(dim=-1, keepdim=True)
    offsets = directions[:, None, None] * torch.arange(1, POINTS + 1)[:, None]  # H, 1, P, 2
    size = torch.tensor([(width, height) for height, width in geometry.shapes])[:, None]  # L, 1, 2
    shape = (batch, reference.shape[1], geometry.heads, len(geometry.shapes), POINTS, 2)
    return reference + (offsets + torch.randn(shape, generator=generator)) / size


def make_inputs(geometry: Geometry, batch: int, uniform: bool, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Value, locations and attention weights in float32."""
    generator = torch.Generator().manual_seed(0)
    positions = sum(height * width for height, width in geometry.shapes)
    value = torch.randn(batch, positions, geometry.heads, geometry.channels, generator=generator)
    if uniform:
        shape = (batch, positions, geometry.heads, len(geometry.shapes), POINTS, 2)
        locations = torch.rand(shape, generator=generator) * 1.1 - 0.05
    else:
        locations = local_locations(geometry, batch, generator)
    weights = torch.randn(locations.shape[:-1], generator=generator).flatten(-2).softmax(-1).view(locations.shape[:-1])
    return value.to(device), locations.to(device), weights.to(device)


def calls(
    geometry: Geometry, inputs: tuple[Tensor, Tensor, Tensor], dtype: torch.dtype, backward: bool
) -> tuple[Callable[[], object], Callable[[], object]]:
    """One call of ours and one of the baseline."""

    def bind(function: Callable[..., Tensor], value_type: torch.dtype) -> Callable[[], object]:
        value, locations, weights = inputs[0].to(value_type), inputs[1], inputs[2]
        if not backward:

            def forward_only() -> object:
                with torch.no_grad():
                    return function(value, geometry.shapes, locations, weights)

            return forward_only
        leaves = [tensor.clone().requires_grad_() for tensor in (value, locations, weights)]
        with torch.no_grad():
            gradient = torch.randn_like(function(value, geometry.shapes, locations, weights))

        def both() -> object:
            for leaf in leaves:
                leaf.grad = None
            function(leaves[0], geometry.shapes, leaves[1], leaves[2]).backward(gradient)
            return leaves

        return both

    return bind(ops.ms_deform_attn, dtype), bind(sample_and_sum, torch.float32)


def cases(
    geometries: list[str], batches: list[int], uniform: list[bool], dtypes: list[str]
) -> Iterator[tuple[str, Geometry, int, bool, torch.dtype, bool]]:
    """Name, geometry, batch, uniform locations, type, with backward."""
    for name in geometries:
        for dtype in dtypes:
            for spread in uniform:
                for batch in batches:
                    for backward in (False, True):
                        case = f"{name}-b{batch}-{'forward-backward' if backward else 'forward'}"
                        case += "-uniform" * spread + f"-{dtype}" * (dtype != "float32")
                        yield case, GEOMETRIES[name], batch, spread, getattr(torch, dtype), backward


def main() -> None:
    parser = paired.parser(__doc__)
    parser.add_argument("--device", default="cpu", type=torch.device)
    parser.add_argument("--geometry", nargs="+", choices=list(GEOMETRIES), default=list(GEOMETRIES))
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--dtype", nargs="+", choices=["float32", "bfloat16", "float16"], default=["float32"])
    parser.add_argument("--locations", nargs="+", choices=["local", "uniform"], default=["local"])
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = arguments.device
    print(f"{IMPLEMENTATION.describe()}, {device}, {arguments.threads} threads, torch {torch.__version__}")
    paired.describe_machine()
    spreads = [kind == "uniform" for kind in arguments.locations]
    found = []
    for case, geometry, batch, uniform, dtype, backward in cases(
        arguments.geometry, arguments.batch, spreads, arguments.dtype
    ):
        ours, baseline = calls(geometry, make_inputs(geometry, batch, uniform, device), dtype, backward)
        found.append(
            paired.compare(
                case,
                ours,
                baseline,
                peer_name="grid_sample",
                rounds=arguments.rounds,
                calls=100 if geometry is GEOMETRIES["tiny"] else 1,
                warm_up=2,
                wait=partial(torch.cuda.synchronize, device) if device.type == "cuda" else None,
            )
        )
    paired.write(found, arguments.json)


if __name__ == "__main__":
    main()
