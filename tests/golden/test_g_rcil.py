"""RCIL: twin blocks and heads through rounds of training and merging, pooled cube distillation, a whole step."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import pytest
import torch
from contexts import step_context
from golden import Case, Precision, Recording, assert_close, cases, load
from torch import Tensor, nn

from model.data.loading.pixel_batch import PixelBatch
from model.losses.pooled_cube import channel_cube_distance, energy_difference, spatial_cube_distance
from model.losses.pooled_distillation import fold_new_channels
from model.methods.pixel.rcil import RCIL
from model.methods.registry import build
from model.networks.backbones.twin_resnet import TwinBlock
from model.networks.deeplabv3.outputs import PixelOutputs
from model.networks.deeplabv3.twin_head import TwinMibHead
from model.scenario import Step
from model.training.optimiser import freeze_untrained

GROUP = "g_rcil"
EPSILON = 1e-5
"""Of the recorded in-place norms, whose weight is |w| + ε."""
RUNS: tuple[tuple[torch.dtype, str, Precision], ...] = (
    (torch.float64, "", "float64"),
    (torch.float32, "_f32", "float32"),
)


def factors(recording: Recording) -> tuple[float, float]:
    """Weight of the maps and of the last one, by the recorded data set."""
    return (5e-6, 5e-7) if recording.config["dataset"].startswith("ade") else (0.01, 5e-4)


Module = TwinBlock | TwinMibHead


def kind_of(case: Case | None) -> str:
    """What a case records, told by its content."""
    if case is None:
        return "none"
    recording = load(case)
    if "kind" in recording.config:
        return "twins"
    return "step" if "logits" in recording.arrays else "cube"


def of_kind(kind: str) -> list[object]:
    return [case for case in cases(GROUP) if case.values[0] is None or kind_of(case.values[0]) == kind]


# ------------------------------------------------------------------------------------------------------- twin branches


def our_name(key: str) -> str:
    return key.removeprefix("convs.").replace("proj_conv.", "downsample.0.").replace("proj_bn.", "downsample.1.")


def recorded_group(recording: Recording, prefix: str) -> dict[str, Tensor]:
    names = [key for key in recording.arrays if key.startswith(prefix) and not key.endswith("_f32")]
    return {our_name(key.removeprefix(prefix)): recording.tensor(key, torch.float64) for key in names}


def is_norm(key: str) -> bool:
    return re.search(r"(^|[._])bn\d?(_new)?\.|downsample\.1\.", key) is not None


def converted(state: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """A recorded state before any merge in our convention: plain weights of norms."""
    plain = {k: v.abs() + EPSILON if is_norm(k) and k.endswith("weight") else v for k, v in state.items()}
    return {key: value.to(dtype) for key, value in plain.items()}


def module_of(recording: Recording, dtype: torch.dtype) -> Module:
    config, start = recording.config, recorded_group(recording, "start.")
    if config["kind"] == "head":
        rates = tuple(config["dilation"])[1:]
        head = TwinMibHead(
            config["in_channels"], config["channels"][0], rates=rates, pooling_window=config["pooling_window"]
        )
        return filled(head, start, dtype)
    bottleneck = "conv3.weight" in start
    block = TwinBlock(
        config["in_channels"],
        config["channels"][0],
        bottleneck=bottleneck,
        stride=config["stride"],
        dilation=config["dilation"],
        act="leaky-relu",
        momentum=0.1,
    )
    block.downsample = None
    for name, module in (("conv3", block), ("downsample.0", block)):  # widths are free in the recordings
        if f"{name}.weight" in start:
            outputs, inputs, *kernel = start[f"{name}.weight"].shape
            stride = config["stride"] if name == "downsample.0" else 1
            conv = nn.Conv2d(inputs, outputs, tuple(kernel), stride, bias=False)
            if name == "conv3":
                module.conv3, module.bn3 = conv, nn.BatchNorm2d(outputs)
            else:
                module.downsample = nn.Sequential(conv, nn.BatchNorm2d(outputs))
    return filled(block, start, dtype)


def filled(module: Module, start: Mapping[str, Tensor], dtype: torch.dtype) -> Module:
    module.to(dtype)
    missing, unexpected = module.load_state_dict(converted(start, dtype), strict=False)
    assert not unexpected
    assert all(key.endswith(("num_batches_tracked", ".bias")) for key in missing), missing
    return module


def effective(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return scale, norm.bias - norm.running_mean * scale


def fixed_draw(draw: Tensor) -> Callable[[int], Tensor]:
    def drawn(channels: int) -> Tensor:
        assert draw.numel() == channels
        return draw.flatten()

    return drawn


@pytest.mark.parametrize("case", of_kind("twins"))
@pytest.mark.parametrize(("dtype", "suffix", "precision"), RUNS, ids=["float64", "float32"])
def test_rounds_of_training_and_merging(case: Case, dtype: torch.dtype, suffix: str, precision: Precision) -> None:
    recording = load(case)
    module, method = module_of(recording, dtype), build("rcil")
    steps = [Step(0, (), (1,)), Step(1, (1,), (2,))]
    signs = {k: v.sign() for k, v in recorded_group(recording, "start.").items() if is_norm(k)}

    def agree(value: Tensor, key: str, what: str) -> None:
        if key + suffix in recording.arrays:
            assert_close(value, recording.arrays[key + suffix], GROUP, precision, f"{what}, {key}")

    for number in range(recording.config["rounds"]):
        trainable = method.trainable(module, steps[min(number, 1)])
        freeze_untrained(module, trainable.groups)
        module.train()
        for frozen in trainable.evaluation_modules:
            frozen.eval()
        module.mixture.draw = fixed_draw(recording.tensor(f"r{number}"))
        x = recording.tensor("input", dtype).requires_grad_()
        module.zero_grad()
        out = module(x)
        (out * recording.tensor("grad_out", dtype)).sum().backward()
        agree(out, f"n{number}.train_output", "training output")
        assert x.grad is not None
        agree(x.grad, f"n{number}.grad.input", "gradient of the input")
        gradients = recorded_group(recording, f"n{number}.grad.")
        gradients.pop("input")
        assert {k for k, p in module.named_parameters() if p.grad is not None} == set(gradients)
        if dtype == torch.float64:
            for key, value in gradients.items():
                found = module.get_parameter(key).grad
                if is_norm(key) and key.endswith("weight"):
                    found = found * signs[key]
                assert_close(found, value, GROUP, precision, f"gradient of {key}, round {number}")
            for key, value in recorded_group(recording, f"n{number}.after.").items():
                norm = key.rpartition(".")[0]
                merged = number > 0 and any(module.get_submodule(norm) is pair.norm for pair in module.twins)
                if not merged:  # its statistics are frozen: those of the identity
                    assert_close(module.state_dict()[key], value, GROUP, precision, f"{key}, round {number}")
        module.eval()
        with torch.no_grad():
            agree(module(x), f"n{number}.eval_output", "evaluation output")
            for pair in module.twins:
                pair.merge()
            agree(module(x), f"n{number}.after_output", "output after the merge")
            mixture, module.mixture = module.mixture, FirstBranch()
            agree(module(x), f"n{number}.branch1_only_output", "merged branch alone")
            agree(module(x), f"n{number}.eval_output", "merged branch alone against both before")
            module.mixture = mixture
        if dtype == torch.float64:
            compare_states(module, recorded_group(recording, f"n{number}.merged."))


class FirstBranch(nn.Module):
    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return first


def compare_states(module: Module, recorded: Mapping[str, Tensor]) -> None:
    """Convolutions as they are; norms by what they compute, the first of each pair being the identity."""
    ours = module.state_dict()
    for key, value in recorded.items():
        if not is_norm(key):
            assert_close(ours[key], value, GROUP, "float64", f"merged {key}")
    merged = [id(pair.norm) for pair in module.twins]
    for name, norm in module.named_modules():
        if isinstance(norm, nn.BatchNorm2d):
            weight, bias, mean, var = (
                recorded[f"{name}.{key}"] for key in ("weight", "bias", "running_mean", "running_var")
            )
            epsilon = 0.0 if id(norm) in merged else EPSILON
            scale = (weight.abs() + epsilon) / (var + epsilon).sqrt()
            for found, expected in zip(effective(norm), (scale, bias - mean * scale), strict=True):
                assert_close(found, expected, GROUP, "float64", f"merged {name}")


# ---------------------------------------------------------------------------------------------------------- distillation


def numbered(recording: Recording, pattern: str) -> list[str]:
    names = [key for key in recording.arrays if re.fullmatch(pattern, key)]
    return sorted(names, key=lambda key: int(re.sub(r"\D", "", key)))


@pytest.mark.parametrize("case", of_kind("cube"))
@pytest.mark.parametrize(("dtype", "suffix", "precision"), RUNS, ids=["float64", "float32"])
def test_pooled_cube(case: Case, dtype: torch.dtype, suffix: str, precision: Precision) -> None:
    recording = load(case)
    config = recording.config
    old_channels, channels = config["C_old"], config["C_old"] + config["C_new"]
    names = numbered(recording, r"map\d+")
    leaves = [recording.tensor(name, dtype).requires_grad_() for name in names]
    maps = [*leaves[:-1], fold_new_channels(leaves[-1], old_channels)]
    differences = [energy_difference(m, recording.tensor(f"{n}_old", dtype)) for m, n in zip(maps, names, strict=True)]
    weight, last = factors(recording)
    scale = (channels / config["C_new"]) ** 0.5
    parts = {
        "spatial": [spatial_cube_distance(d, config["windows"]) for d in differences],
        "channel": [channel_cube_distance(d) for d in differences[:-1]],
    }
    for name, distances in parts.items():
        weights = [weight] * (len(distances) - 1) + [last]
        value = scale * sum(f * d for f, d in zip(weights, distances, strict=True)) / len(distances)
        assert_close(value, recording.arrays[f"{name}.value{suffix}"], GROUP, precision, name)
        gradients = torch.autograd.grad(value, leaves, allow_unused=True, retain_graph=True)
        for key, gradient in zip(names, gradients, strict=True):
            recorded = f"{name}.grad.{key}"
            if recorded + suffix in recording.arrays:
                assert gradient is not None
                assert_close(gradient, recording.arrays[recorded + suffix], GROUP, precision, recorded)
            else:
                assert recorded in recording.arrays or gradient is None or not gradient.any()


def method_of(recording: Recording) -> RCIL:
    weight, last = factors(recording)
    values = {
        "distillation_weight": recording.config["loss_kd"],
        "feature_weight": weight,
        "logit_weight": last,
    }
    method = build("rcil", values)
    assert isinstance(method, RCIL) and recording.config["unce"] and recording.config["unkd"]
    return method


def outputs_of(
    recording: Recording, old: str, dtype: torch.dtype, gradient: bool
) -> tuple[PixelOutputs, dict[str, Tensor]]:
    """The recorded maps in their places: the last intermediate one is the head's output."""
    names = ["logits", "small_logits", *numbered(recording, r"attention\d+")]
    leaves = {name: recording.tensor(name + old, dtype).requires_grad_(gradient) for name in names}
    *stages, last = (leaves[name] for name in names[2:])
    return PixelOutputs(leaves["logits"], last, last, leaves["small_logits"], tuple(stages)), leaves


@pytest.mark.parametrize("case", of_kind("step"))
@pytest.mark.parametrize(("dtype", "suffix", "precision"), RUNS, ids=["float64", "float32"])
def test_whole_training_step(case: Case, dtype: torch.dtype, suffix: str, precision: Precision) -> None:
    recording = load(case)
    method = method_of(recording)
    outputs, leaves = outputs_of(recording, "", dtype, True)
    old_outputs, _ = outputs_of(recording, "_old", dtype, False)
    labels = recording.tensor("labels")
    names = ("",) * len(labels)
    batch = PixelBatch(torch.zeros(len(labels), 3, *labels.shape[1:]), labels, names, torch.zeros(len(labels)).bool())
    context = step_context(Step(1, (1,), (2,)))
    targets = method.targets(context, batch, old_outputs)
    terms = method.losses(context, batch, outputs, old_outputs, targets)
    total = sum(terms.values())
    total.backward()
    kd = recording.arrays[f"kd.value{suffix}"]
    assert_close(terms["classification"], recording.arrays[f"class_loss.value{suffix}"], GROUP, precision, "class")
    assert_close(terms["output-distillation"] / method.distillation_weight, kd, GROUP, precision, "distillation")
    assert_close(terms["feature-distillation"], recording.arrays[f"pcd.value{suffix}"], GROUP, precision, "cube")
    assert_close(total, recording.arrays[f"total.value{suffix}"], GROUP, precision, "total")
    for name, leaf in leaves.items():
        if (key := f"total.grad.{name}{suffix}") in recording.arrays:
            assert leaf.grad is not None
            assert_close(leaf.grad, recording.arrays[key], GROUP, precision, f"gradient of {name}")
