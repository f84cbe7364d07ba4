"""The same weights in another well-known implementation give the same outputs: Hugging Face's Mask2Former."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor

from model.networks.mask2former.network import build_mask2former

transformers = pytest.importorskip("transformers", reason="transformers is not installed")

RENAMING = (
    (r"^model\.pixel_level_module\.encoder\.embedder\.embedder\.", "backbone.stem.conv1."),
    (
        r"^model\.pixel_level_module\.encoder\.encoder\.stages\.(\d)\.layers\.(\d+)\.",
        lambda m: f"backbone.res{int(m[1]) + 2}.{m[2]}.",
    ),
    (r"(backbone.*)\.layer\.(\d)\.", lambda m: f"{m[1]}.conv{int(m[2]) + 1}."),
    (r"(backbone.*)\.convolution\.", r"\1."),
    (r"(backbone.*)\.normalization\.", r"\1.norm."),
    (r"^model\.pixel_level_module\.decoder\.", "sem_seg_head.pixel_decoder."),
    (r"pixel_decoder\.(level_embed|encoder\.)", r"pixel_decoder.transformer.\1"),
    (r"input_projections", "input_proj"),
    (r"mask_projection", "mask_features"),
    (r"(adapter_1|layer_1)\.0\.", r"\1."),
    (r"(adapter_1|layer_1)\.1\.", r"\1.norm."),
    (r"(encoder.*)\.self_attn_layer_norm", r"\1.norm1"),
    (r"(encoder.*)\.final_layer_norm", r"\1.norm2"),
    (r"^model\.transformer_module\.decoder\.layernorm", "sem_seg_head.predictor.decoder_norm"),
    (
        r"^model\.transformer_module\.decoder\.mask_predictor\.mask_embedder\.(\d)\.0",
        r"sem_seg_head.predictor.mask_embed.layers.\1",
    ),
    (r"^model\.transformer_module\.queries_embedder", "sem_seg_head.predictor.query_embed"),
    (r"^model\.transformer_module\.queries_features", "sem_seg_head.predictor.query_feat"),
    (r"^model\.transformer_module\.", "sem_seg_head.predictor."),
    (
        r"predictor\.decoder\.layers\.(\d)\.self_attn\.",
        r"predictor.transformer_self_attention_layers.\1.self_attn.",
    ),
    (
        r"predictor\.decoder\.layers\.(\d)\.self_attn_layer_norm",
        r"predictor.transformer_self_attention_layers.\1.norm",
    ),
    (
        r"predictor\.decoder\.layers\.(\d)\.cross_attn\.",
        r"predictor.transformer_cross_attention_layers.\1.multihead_attn.",
    ),
    (
        r"predictor\.decoder\.layers\.(\d)\.cross_attn_layer_norm",
        r"predictor.transformer_cross_attention_layers.\1.norm",
    ),
    (r"predictor\.decoder\.layers\.(\d)\.final_layer_norm", r"predictor.transformer_ffn_layers.\1.norm"),
    (r"predictor\.decoder\.layers\.(\d)\.fc", r"predictor.transformer_ffn_layers.\1.linear"),
    (r"\.fc(\d)\.", r".linear\1."),
    (r"^class_predictor", "sem_seg_head.predictor.class_embed"),
)


def converted(state: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for key, value in state.items():
        if key.startswith("criterion."):
            continue
        for pattern, replacement in RENAMING:
            key = re.sub(pattern, replacement, key)
        renamed[key] = value
    for kind in ("weight", "bias"):  # separate projections there, one stacked matrix here
        for key in [key for key in renamed if key.endswith(f"self_attn.q_proj.{kind}")]:
            prefix = key.removesuffix(f"q_proj.{kind}")
            parts = [renamed.pop(f"{prefix}{which}_proj.{kind}") for which in "qkv"]
            renamed[f"{prefix}in_proj_{kind}"] = torch.cat(parts)
    return renamed


def theirs() -> torch.nn.Module:
    backbone = transformers.ResNetConfig(
        embedding_size=16,
        hidden_sizes=[16, 32, 64, 128],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    config = transformers.Mask2FormerConfig(
        backbone_config=backbone,
        feature_size=64,
        mask_feature_size=64,
        hidden_dim=64,
        encoder_feedforward_dim=128,
        encoder_layers=2,
        decoder_layers=5,  # the prediction from the raw queries counts as one there
        num_attention_heads=4,
        dim_feedforward=96,
        num_queries=12,
        num_labels=5,
    )
    network = transformers.Mask2FormerForUniversalSegmentation(config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if not value.is_floating_point() or name.startswith("criterion."):
                continue
            noise = torch.randn(value.shape, generator=generator)
            if value.dim() > 1:
                value.copy_(noise / value[0].numel() ** 0.5)
            else:
                value.copy_(0.1 * noise + (1.0 if name.endswith(("norm.weight", "running_var", "n.weight")) else 0.0))
            if "running_var" in name:
                value.abs_()
            if "queries" in name or "level_embed" in name:
                value.copy_(noise)
    return network


def test_outputs_agree_with_transformers() -> None:
    other = theirs()
    mine = build_mask2former(
        [5],
        backbone="tiny",
        norm="bn",
        head="joint",
        channels=64,
        queries=12,
        encoder_layers=2,
        encoder_heads=4,
        encoder_feed_forward=128,
        decoder_layers=4,
        decoder_heads=4,
        decoder_feed_forward=96,
    ).eval()
    mine.load_state_dict(converted(other.state_dict()))
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = other(pixel_values=images, output_auxiliary_logits=True)
        outputs = mine(images)
    pairs = [(expected.class_queries_logits, expected.masks_queries_logits)]
    pairs = [(aux["class_queries_logits"], aux["masks_queries_logits"]) for aux in expected.auxiliary_logits] + pairs
    assert len(pairs) == len(outputs.predictions)
    for prediction, (logits, masks) in zip(outputs.predictions, pairs, strict=True):
        torch.testing.assert_close(prediction.logits, logits, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(prediction.masks, masks, atol=1e-4, rtol=1e-4)
        assert masks.std() > 0.1
