"""The forward pass of an evaluation: normalisation folded and channels last, against convolution, scale and shift one by one.

    python benchmarks/evaluation_forward.py --network mask2former-r50 deeplabv3-r101 --json results/evaluation_forward.json

Random weights and statistics, one image a call as in an evaluation with images of many sizes. Both must give the same logits up
to rounding, or the program fails.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from paired import compare, describe_machine, parser, write
from torch import nn

from model.networks import registry
from model.networks.backbones.detectron_resnet import ConvNorm
from model.networks.folding import folded_copy

NETWORKS: dict[str, tuple[str, dict[str, Any], tuple[int, int]]] = {
    "mask2former-r50": ("mask2former", {"backbone": "resnet50", "norm": "frozen-bn"}, (640, 640)),
    "deeplabv3-r101": ("deeplabv3", {"backbone": "resnet101"}, (512, 512)),
}
"""Name, arguments, and (height, width) of the image."""


def build(name: str) -> nn.Module:
    """As after training: variances that keep the size of what passes."""
    torch.manual_seed(0)
    kind, arguments, _ = NETWORKS[name]
    network = registry.build(kind, [100, 50], arguments).eval().requires_grad_(False)
    for key, value in network.state_dict().items():
        if key.endswith("running_var"):
            value.uniform_(0.8, 1.2)
        elif key.endswith("running_mean"):
            value.uniform_(-0.1, 0.1)
    return network


def with_separate_normalisation(network: nn.Module) -> nn.Module:
    """The same network, changed in place: a frozen normalisation no longer joins its convolution, as it does in training too."""
    for module in network.modules():
        if isinstance(module, ConvNorm):
            module.norm = nn.Sequential(module.norm)
    return network


def main() -> None:
    """Check that both agree, then time them."""
    made = parser(__doc__, rounds=7)
    made.add_argument("--network", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    made.add_argument("--device", default="cpu", type=torch.device)
    made.add_argument("--threads", type=int, default=2)
    made.add_argument("--size", type=int, help="side of a square image")
    arguments = made.parse_args()
    torch.set_num_threads(arguments.threads)
    describe_machine()
    wait = torch.cuda.synchronize if arguments.device.type == "cuda" else None
    rows = []
    for name in arguments.network:
        height, width = (arguments.size, arguments.size) if arguments.size else NETWORKS[name][2]
        trained = build(name).to(arguments.device)
        folded = folded_copy(trained)
        plain = with_separate_normalisation(trained)
        images = torch.randn(1, 3, height, width, device=arguments.device)
        with torch.inference_mode():
            before, after = plain(images).logits, folded(images).logits
            difference = float((after - before).abs().max() / before.abs().max())
            if difference > 1e-3:
                sys.exit(f"{name}: logits differ by {difference:.1e} of the largest")
            rows.append(
                compare(
                    f"evaluation forward of {name}, {height} x {width}",
                    lambda folded=folded, images=images: folded(images),
                    lambda plain=plain, images=images: plain(images),
                    peer_name="without folding and channels last",
                    rounds=arguments.rounds,
                    wait=wait,
                )
            )
        print(f"  logits differ by {difference:.0e} of the largest")
    write(rows, arguments.json)


if __name__ == "__main__":
    main()
