"""Our Mask2Former as that of Hugging Face's transformers, for the networks that it can express.

It has one class head for all steps, a sigmoid for each mask, and batch normalisation in the backbone. The heads of the steps
are put together, "no object" last.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from model.networks.backbones.detectron_resnet import ResNet
from model.networks.mask2former.network import Mask2Former

_HEAD = "sem_seg_head."
_PREDICTOR = "sem_seg_head.predictor."
_NAMES: Sequence[tuple[str, Any]] = (
    (r"^model\.pixel_level_module\.encoder\.embedder\.embedder\.", "backbone.stem.conv1."),
    (
        r"^model\.pixel_level_module\.encoder\.encoder\.stages\.(\d)\.layers\.(\d+)\.",
        lambda m: f"backbone.res{int(m[1]) + 2}.{m[2]}.",
    ),
    (r"(backbone.*)\.layer\.(\d)\.", lambda m: f"{m[1]}.conv{int(m[2]) + 1}."),
    (r"(backbone.*)\.convolution\.", r"\1."),
    (r"(backbone.*)\.normalization\.", r"\1.norm."),
    (r"^model\.pixel_level_module\.decoder\.", f"{_HEAD}pixel_decoder."),
    (r"pixel_decoder\.(level_embed|encoder\.)", r"pixel_decoder.transformer.\1"),
    (r"input_projections", "input_proj"),
    (r"mask_projection", "mask_features"),
    (r"(adapter_1|layer_1)\.0\.", r"\1."),
    (r"(adapter_1|layer_1)\.1\.", r"\1.norm."),
    (r"(encoder.*)\.self_attn_layer_norm", r"\1.norm1"),
    (r"(encoder.*)\.final_layer_norm", r"\1.norm2"),
    (r"^model\.transformer_module\.decoder\.layernorm", f"{_PREDICTOR}decoder_norm"),
    (
        r"^model\.transformer_module\.decoder\.mask_predictor\.mask_embedder\.(\d)\.0",
        rf"{_PREDICTOR}mask_embed.layers.\1",
    ),
    (r"^model\.transformer_module\.queries_embedder", f"{_PREDICTOR}query_embed"),
    (r"^model\.transformer_module\.queries_features", f"{_PREDICTOR}query_feat"),
    (r"^model\.transformer_module\.", _PREDICTOR),
    (r"predictor\.decoder\.layers\.(\d+)\.self_attn\.", r"predictor.transformer_self_attention_layers.\1.self_attn."),
    (
        r"predictor\.decoder\.layers\.(\d+)\.self_attn_layer_norm",
        r"predictor.transformer_self_attention_layers.\1.norm",
    ),
    (
        r"predictor\.decoder\.layers\.(\d+)\.cross_attn\.",
        r"predictor.transformer_cross_attention_layers.\1.multihead_attn.",
    ),
    (
        r"predictor\.decoder\.layers\.(\d+)\.cross_attn_layer_norm",
        r"predictor.transformer_cross_attention_layers.\1.norm",
    ),
    (r"predictor\.decoder\.layers\.(\d+)\.final_layer_norm", r"predictor.transformer_ffn_layers.\1.norm"),
    (r"predictor\.decoder\.layers\.(\d+)\.fc", r"predictor.transformer_ffn_layers.\1.linear"),
    (r"\.fc(\d)\.", r".linear\1."),
    (r"^class_predictor", f"{_PREDICTOR}class_embed"),
)
"""Names of transformers to ours, one rule after the other."""
_PROJECTION = re.compile(r"(?P<before>.*self_attn\.)(?P<which>[qkv])_proj\.(?P<kind>weight|bias)")
"""Separate there, one stacked matrix here."""
_DEPTHS = {"resnet50": [3, 4, 6, 3], "resnet101": [3, 4, 23, 3]}


class TransformersError(ValueError):
    """A network that transformers' Mask2Former cannot express; the message says why."""


def to_transformers(network: nn.Module, arguments: Mapping[str, Any], names: Mapping[int, str] | None = None) -> Any:
    """The same network as ``Mask2FormerForUniversalSegmentation``, in evaluation mode.

    Args:
        network: built from ``arguments``.
        arguments: name and arguments of the recipe's network.
        names: position of a class to its name.

    Raises:
        TransformersError: if transformers is not installed, or cannot express the network.
    """
    try:
        transformers = import_module("transformers")
    except ImportError:
        raise TransformersError(
            "the package 'transformers' is not installed: pip install 'transformers>=4.50'"
        ) from None
    mine = _expressible(network, arguments)
    found = transformers.Mask2FormerForUniversalSegmentation(_config(transformers, mine, arguments, names or {}))
    state, target = _joined(mine.state_dict()), found.state_dict()
    filled = {key: _source(key, state, value) for key, value in target.items() if not key.startswith("criterion.")}
    if wrong := [key for key, value in filled.items() if value.shape != target[key].shape]:
        raise TransformersError(
            f"transformers builds '{wrong[0]}' in another shape; its version is not one that Segue knows"
        )
    found.load_state_dict(filled, strict=False)
    return found.eval()


def our_name(key: str) -> str:
    """Our name of a weight of transformers."""
    for pattern, replacement in _NAMES:
        key = re.sub(pattern, replacement, key)
    return key


def _expressible(network: nn.Module, arguments: Mapping[str, Any]) -> Mask2Former:
    if not isinstance(network, Mask2Former) or arguments.get("name") != "mask2former":
        raise TransformersError(
            f"transformers has no network such as '{arguments.get('name')}', only Mask2Former; export it as safetensors, or "
            "under the names of its release"
        )
    channels = arguments.get("channels", 256)
    wanted = (
        ("norm", ("bn", "frozen-bn"), "frozen-bn", "the backbone of transformers has batch normalisation"),
        ("head", ("joint", "steps"), "steps", "transformers has one class head with 'no object' last"),
        ("mask_activation", ("sigmoid",), "sigmoid", "transformers has a sigmoid for each mask"),
        ("encoder_points", (4,), 4, "transformers samples 4 points"),
        ("pixel_channels", (None, channels), None, "transformers has one width"),
        ("encoder_heads", (arguments.get("decoder_heads", 8),), 8, "transformers has one number of heads"),
    )
    for name, allowed, default, reason in wanted:
        if (value := arguments.get(name, default)) not in allowed:
            raise TransformersError(f"network.{name} is {value!r}, which transformers' Mask2Former cannot be: {reason}")
    if not isinstance(network.backbone, ResNet):
        raise TransformersError(
            "only ResNets of detectron2's kind can be written for transformers, not backbones of timm"
        )
    return network


def _config(transformers: Any, network: Mask2Former, arguments: Mapping[str, Any], names: Mapping[int, str]) -> Any:
    backbone = arguments.get("backbone", "resnet50")
    stages = ["stage1", "stage2", "stage3", "stage4"]
    if backbone in _DEPTHS:
        body = transformers.ResNetConfig(depths=_DEPTHS[backbone], layer_type="bottleneck", out_features=stages)
    else:
        assert isinstance(network.backbone, ResNet)
        widths = list(network.backbone.channels)
        depths = [len(getattr(network.backbone, f"res{level}")) for level in (2, 3, 4, 5)]
        stem = network.backbone.state_dict()["stem.conv1.weight"].shape[0]
        body = transformers.ResNetConfig(
            embedding_size=stem, hidden_sizes=widths, depths=depths, layer_type="basic", out_features=stages
        )
    classes, channels = sum(network.classes_per_step), arguments.get("channels", 256)
    labels = {place: names.get(place, f"class {place}") for place in range(classes)}
    return transformers.Mask2FormerConfig(
        backbone_config=body,
        feature_size=channels,
        mask_feature_size=arguments.get("mask_channels") or channels,
        hidden_dim=channels,
        encoder_feedforward_dim=arguments.get("encoder_feed_forward", 1024),
        encoder_layers=arguments.get("encoder_layers", 6),
        decoder_layers=arguments.get("decoder_layers", 9)
        + 1,  # the prediction from the raw queries counts as one there
        num_attention_heads=arguments.get("decoder_heads", 8),
        dim_feedforward=arguments.get("decoder_feed_forward", 2048),
        num_queries=arguments.get("queries", 100),
        id2label=labels,
        label2id={text: place for place, text in labels.items()},
    )


def _joined(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The heads of the steps as one, in learning order; a joint head is left as it is."""
    found = dict(state)
    for kind in ("weight", "bias"):
        keys = [key for key in state if re.fullmatch(rf"{re.escape(_PREDICTOR)}class_embeds\.\d+\.{kind}", key)]
        if keys:
            base, *increments = (found.pop(key) for key in sorted(keys, key=lambda key: int(key.split(".")[-2])))
            found[f"{_PREDICTOR}class_embed.{kind}"] = torch.cat([base[:-1], *increments, base[-1:]])
    return found


def _source(key: str, state: Mapping[str, Tensor], like: Tensor) -> Tensor:
    name = our_name(key)
    if (match := _PROJECTION.fullmatch(name)) and name not in state:
        stacked = state.get(f"{match['before']}in_proj_{match['kind']}")
        if stacked is not None:
            return stacked.chunk(3)["qkv".index(match["which"])]
    if name in state:
        return state[name]
    if name.endswith("num_batches_tracked"):  # frozen normalisations count nothing
        return like
    raise TransformersError(
        f"transformers has a weight '{key}' that our network lacks; its version is not one that Segue knows"
    )
