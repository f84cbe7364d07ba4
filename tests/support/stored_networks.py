"""Checkpoints of small networks with random weights in a results folder, as the workflow would have left them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from model.config.schema import Recipe
from model.data.prepared.dataset import PreparedDataset
from model.data.sources.prepare import prepare
from model.networks import registry as networks
from model.training.checkpoint import Checkpoint, save_checkpoint

PROJECT = Path(__file__).resolve().parents[2]
SHAPES = {"stuff": 4, "things": 4, "size": [48, 64], "train_images": 1, "val_images": 4}


def prepared_shapes(results: Path) -> PreparedDataset:
    """The generated dataset, prepared in a results folder."""
    prepare("shapes", SHAPES, results / "data" / "shapes", name="shapes")
    return PreparedDataset.open(results / "data" / "shapes")


def micro_recipe(family: str) -> dict[str, Any]:
    """A recipe of the micro configurations."""
    name = "deeplabv3-micro" if family == "per-pixel" else "mask2former-micro"
    content: dict[str, Any] = yaml.safe_load((PROJECT / "config" / "recipes" / f"{name}.yaml").read_text())
    return content


def stored_network(
    folder: Path,
    task: str,
    classes: tuple[int, ...],
    *,
    family: str = "per-pixel",
    method: str = "finetuning",
    steps: tuple[int, ...] | None = None,
    network: dict[str, Any] | None = None,
    **hyper_parameters: Any,
) -> Path:
    """Write a checkpoint with random weights that predicts several classes (:func:`spread`).

    Args:
        folder: to write to.
        task: of the training.
        classes: category ids, in learning order.
        family: per-pixel or mask.
        method: by which it is said to be trained.
        steps: number of classes of each step; half of them in each of two steps by default.
        network: name and arguments; those of the micro recipe by default.
        hyper_parameters: of the method.
    """
    counts = steps or (len(classes) - len(classes) // 2, len(classes) // 2)
    recipe = micro_recipe(family)
    arguments = dict(network or recipe["network"])
    recipe["network"] = arguments
    torch.manual_seed(0)
    built = networks.build(arguments["name"], counts, {k: v for k, v in arguments.items() if k != "name"})
    spread(built)
    past = sum(counts[:-1])
    step = {"index": len(counts) - 1, "past": list(classes[:past]), "current": list(classes[past:])}
    spec = {
        "dataset": "shapes",
        "task": task,
        "setting": "overlapped",
        "seed": 0,
        "step": step,
        "method": {"name": method, "hyper_parameters": hyper_parameters},
        "recipe": Recipe.model_validate(recipe).resolved(1, 1),
    }
    path = folder / "checkpoint.pt"
    stored = Checkpoint(built.state_dict(), classes, tuple(counts), len(counts) - 1, arguments, {}, spec)
    save_checkpoint(path, stored)
    return path


def spread(network: nn.Module) -> None:
    """Make a network with random weights say something: what decides is centred and scaled on an image, and queries differ.

    Random weights give nearly the same features everywhere, so that one class would win every pixel.
    """
    deciding = [
        module
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d) and (name.startswith("cls.") or name.endswith("pixel_decoder.mask_features"))
    ]
    noise = torch.nn.functional.interpolate(torch.randn(1, 3, 8, 8), (64, 64), mode="bicubic")
    with torch.no_grad():
        for name, value in network.named_parameters():
            if "query_feat" in name or "class_embed" in name or "mask_embed" in name:
                value.normal_(std=10.0 if "query_feat" in name else 1.0)
        hooks = [module.register_forward_hook(_centre) for module in deciding]
        network.eval()(noise)
        for hook in hooks:
            hook.remove()


def _centre(module: nn.Module, inputs: object, output: torch.Tensor) -> torch.Tensor:
    assert isinstance(module, nn.Conv2d) and module.bias is not None
    mean, deviation = output.mean(dim=(0, 2, 3)), output.std(dim=(0, 2, 3)) + 1e-6
    module.weight /= deviation[:, None, None, None]
    module.bias.copy_((module.bias - mean) / deviation)
    return (output - mean[:, None, None]) / deviation[:, None, None]
