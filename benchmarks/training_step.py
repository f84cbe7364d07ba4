"""Training steps against other implementations of the same step.

    python benchmarks/training_step.py                                     # all cases
    python benchmarks/training_step.py --cases mib-ade --rounds 7 --memory

Both sides do the same work on the same images: forward pass, losses, backward pass, clipping, a fused optimiser, on random
weights. Segue's side is its own training loop with its own optimiser.

``mask2former``  ResNet-50 with frozen normalisation, 640 × 640, six targets an image, ten sets of predictions of 100 queries with
                 12,544 points for each mask; the peer is Mask2Former of Hugging Face transformers with its own losses.
``mib-voc``, ``mib-ade``  an increment of MiB, DeepLabV3 with ResNet-101 at output stride 16, two images of 512 × 512, an old
                 model beside the new one; 15-5 of PASCAL VOC (21 channels) and 100-50 of ADE20K (151 channels). The peer is
                 torchvision's network, whose head has one convolution more, with MiB's losses from ordinary operations.

``--memory`` also prints the peak memory of a process that ran three steps of one side only.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import paired
import torch
from paired import Comparison
from torch import Tensor, nn
from torch.nn import functional

from model.data.loading.mask_batch import MaskBatch, MaskTargets
from model.data.loading.pixel_batch import PixelBatch
from model.methods.base import StepContext
from model.methods.registry import build as build_method
from model.networks.deeplabv3.network import DeepLabV3
from model.networks.folding import folded_copy
from model.networks.mask2former.network import build_mask2former
from model.scenario import Step
from model.training.loop import gradient_scaler, train
from model.training.optimiser import build_optimiser, freeze_untrained

Call = Callable[[], object]
MASK_CLASSES, MASK_SIZE, TARGETS, CLIP = 150, 640, 6, 0.01
PIXEL_SIZE, PIXEL_BATCH = 512, 2
CHANNELS = {"mib-voc": (15, 5), "mib-ade": (100, 50)}
"""Classes before and of the increment; the background comes on top."""
IGNORE = 255


class Quiet:
    """A reporter that reports nothing."""

    def iteration(self, iteration: int, learning_rate: float, terms: Any) -> None:
        """Nothing."""


def segue_step(
    network: nn.Module,
    old_model: nn.Module | None,
    method: Any,
    step: Step,
    batch: Any,
    optimiser: Any,
    clip: float | None,
) -> Call:
    """One iteration of Segue's training loop."""
    context: StepContext[Any] = StepContext(
        step=step,
        setting="overlapped",
        iteration=0,
        iterations=1,
        iterations_per_epoch=1,
        network=network,
        old_model=old_model,
        state={},
        device=batch.images.device,
        reduce=lambda tensor, reduction: tensor,
        batches=lambda: iter([batch]),
        learning_rate=1e-5,
    )
    trainable = method.trainable(network, step)
    freeze_untrained(network, trainable.groups)
    groups = build_optimiser(optimiser, trainable.groups, learning_rate=1e-5, weight_decay=1e-4)
    options = {"method": method, "optimiser": groups, "schedule": lambda iteration: 1.0, "reporter": Quiet()}
    scaler = gradient_scaler("fp32", batch.images.device)
    return lambda: train(replace(context), batches=iter([batch]), scaler=scaler, clip_norm=clip, **options)


# ------------------------------------------------------------------------------------------------------------ Mask2Former


def mask_images() -> tuple[Tensor, list[MaskTargets]]:
    """One image, with targets that are disjoint blobs."""
    torch.manual_seed(0)
    coarse = torch.rand(1, TARGETS, 10, 10)
    owner = functional.interpolate(coarse, size=(MASK_SIZE, MASK_SIZE), mode="bilinear").argmax(dim=1)[0]
    masks = owner == torch.arange(TARGETS)[:, None, None]
    return torch.randn(1, 3, MASK_SIZE, MASK_SIZE), [MaskTargets(torch.randint(MASK_CLASSES, (TARGETS,)), masks)]


def mask2former() -> Call:
    """Fine-tuning of Mask2Former."""
    images, targets = mask_images()
    network = build_mask2former([MASK_CLASSES], head="joint")
    for module in network.backbone.modules():
        if hasattr(module, "running_var"):
            module.weight.data.fill_(0.5)  # type: ignore[union-attr, operator]  # random weights and frozen statistics
    batch = MaskBatch(images, tuple(targets), ((MASK_SIZE, MASK_SIZE),), ("image",), torch.zeros(1, dtype=torch.bool))
    method = build_method("finetuning", family="mask")
    step = Step(0, (), tuple(range(MASK_CLASSES)))
    return segue_step(network, None, method, step, batch, "adamw", CLIP)


def transformers_mask2former() -> Call:
    """The same in transformers."""
    import transformers

    images, targets = mask_images()
    backbone = transformers.ResNetConfig(out_features=["stage1", "stage2", "stage3", "stage4"])
    config = transformers.Mask2FormerConfig(
        backbone_config=backbone, num_labels=MASK_CLASSES, num_queries=100, train_num_points=112 * 112
    )
    network = transformers.Mask2FormerForUniversalSegmentation(config).train()
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for module in norms:
        module.eval().requires_grad_(False).weight.data.fill_(0.5)
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=1e-5, weight_decay=1e-4, fused=True)
    labels = {"mask_labels": [one.masks.float() for one in targets], "class_labels": [one.labels for one in targets]}

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        network(pixel_values=images, **labels).loss.backward()
        nn.utils.clip_grad_norm_(parameters, CLIP)
        optimiser.step()

    return step


# -------------------------------------------------------------------------------------------------------------------- MiB


def pixel_batch(classes: int) -> PixelBatch:
    """Noise with labels of all channels and some that are ignored."""
    torch.manual_seed(0)
    coarse = torch.randint(0, classes + 1, (PIXEL_BATCH, PIXEL_SIZE // 32, PIXEL_SIZE // 32))
    labels = coarse.repeat_interleave(32, 1).repeat_interleave(32, 2)
    labels[:, :16] = IGNORE
    images = torch.randn(PIXEL_BATCH, 3, PIXEL_SIZE, PIXEL_SIZE)
    return PixelBatch(images, labels, ("a", "b"), torch.zeros(PIXEL_BATCH, dtype=torch.bool))


def mib(past: int, current: int) -> Call:
    """The increment in Segue."""
    batch = pixel_batch(past + current)
    network, method = DeepLabV3((past,)), build_method("mib")
    old_model = folded_copy(network)
    step = Step(1, tuple(range(past)), tuple(range(past, past + current)))
    method.grow(network, step)
    return segue_step(network, old_model, method, step, batch, "sgd", None)


class TorchvisionDeepLab(nn.Module):
    """torchvision's DeepLabV3 at the output stride of MiB."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        from torchvision.models import resnet101
        from torchvision.models._utils import IntermediateLayerGetter
        from torchvision.models.segmentation.deeplabv3 import DeepLabHead, DeepLabV3

        body = resnet101(weights=None, replace_stride_with_dilation=[False, False, True])
        backbone = IntermediateLayerGetter(body, return_layers={"layer4": "out"})
        self.network = DeepLabV3(backbone, DeepLabHead(2048, channels, atrous_rates=(6, 12, 18)))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)["out"]
        return logits


def plain_mib_losses(logits: Tensor, old_logits: Tensor, labels: Tensor) -> Tensor:
    """Class loss and ten times the distillation, each operation by itself."""
    old = old_logits.shape[1]
    total = torch.logsumexp(logits, dim=1)
    unbiased = torch.zeros_like(logits)
    unbiased[:, 0] = torch.logsumexp(logits[:, :old], dim=1) - total
    unbiased[:, old:] = logits[:, old:] - total.unsqueeze(1)
    shown = labels.clone()
    shown[labels < old] = 0
    classification = functional.nll_loss(unbiased, shown, ignore_index=IGNORE, reduction="none").mean()
    background = torch.cat([logits[:, :1], logits[:, old:]], dim=1).logsumexp(dim=1) - total
    others = logits[:, 1:old] - total.unsqueeze(1)
    wanted = old_logits.softmax(dim=1)
    distillation = (wanted[:, 0] * background + (wanted[:, 1:] * others).sum(dim=1)) / old
    return classification - 10 * distillation.mean()


def torchvision_mib(past: int, current: int) -> Call:
    """The increment with torchvision's network."""
    batch = pixel_batch(past + current)
    network = TorchvisionDeepLab(1 + past + current).train()
    old_model = TorchvisionDeepLab(1 + past).eval().requires_grad_(False)
    optimiser = torch.optim.SGD(
        network.parameters(), lr=1e-5, momentum=0.9, nesterov=True, weight_decay=1e-4, fused=True
    )

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        with torch.no_grad():
            old_logits = old_model(batch.images)
        plain_mib_losses(network(batch.images), old_logits, batch.labels).backward()
        optimiser.step()

    return step


SIDES: dict[str, tuple[Callable[[], Call], Callable[[], Call], str]] = {
    "mask2former": (mask2former, transformers_mask2former, "transformers"),
    **{
        name: (lambda c=classes: mib(*c), lambda c=classes: torchvision_mib(*c), "torchvision")  # type: ignore[misc]
        for name, classes in CHANNELS.items()
    },
}
"""Segue's side of each case, the peer's side, and the peer's name."""


def peak_memory(case: str, side: str, threads: int) -> float:
    """Peak memory in GiB of a process that runs three steps of one side (Linux)."""
    command = [sys.executable, __file__, "--cases", case, "--run", side, "--threads", str(threads)]
    found: float = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def main() -> None:
    parser = paired.parser(__doc__, rounds=5)
    parser.add_argument("--cases", nargs="+", choices=list(SIDES), default=list(SIDES))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory", action="store_true", help="also measure peak memory, in processes of their own")
    parser.add_argument("--run", choices=["segue", "peer"], help="run three steps of one side; print its peak memory")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.run:
        step = SIDES[arguments.cases[0]][arguments.run == "peer"]()
        for _ in range(3):
            step()
        status = Path("/proc/self/status").read_text(encoding="ascii")
        print(json.dumps(int(status.split("VmHWM:")[1].split()[0]) / 2**20))
        return
    paired.describe_machine()
    found: list[Comparison] = []
    for case in arguments.cases:
        ours, peer, name = SIDES[case]
        found.append(paired.compare(case, ours(), peer(), peer_name=name, rounds=arguments.rounds))
        if arguments.memory:
            mine, theirs = (peak_memory(case, side, arguments.threads) for side in ("segue", "peer"))
            print(f"{case}: peak memory {mine:.2f} GiB, {name} {theirs:.2f} GiB, {theirs / mine:.2f} x")
    paired.write(found, arguments.json)


if __name__ == "__main__":
    main()
