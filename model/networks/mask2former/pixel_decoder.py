"""From backbone maps to what the mask decoder reads: three context-rich maps and one fine map of mask features.

Cheng et al., "Masked-attention Mask Transformer", CVPR 2022, section 3.2: a deformable-attention encoder over strides 32,
16 and 8, then one top-down step to stride 4.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.losses.precision import at_least_single
from model.networks.backbones.detectron_resnet import STAGES, ConvNorm
from model.networks.mask2former.deformable import EncoderLayer, LevelShapes, cell_centres
from model.networks.mask2former.positions import sine_positions

NORM_GROUPS = 32


class _Encoder(nn.Module):
    def __init__(self, layers: int, channels: int, levels: int, heads: int, points: int, feed_forward: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(channels, levels, heads, points, feed_forward) for _ in range(layers))

    def forward(self, x: Tensor, positions: Tensor, reference: Tensor, shapes: LevelShapes) -> Tensor:
        for layer in self.layers:
            x = layer(x, positions, reference, shapes)
        return x


class PyramidEncoder(nn.Module):
    """Deformable self-attention among all cells of a pyramid.

    Padding is not masked: every cell of the padded batch takes part, as in the released networks.
    """

    def __init__(self, layers: int, channels: int, levels: int, heads: int, points: int, feed_forward: int) -> None:
        super().__init__()
        self.level_embed = nn.Parameter(torch.randn(levels, channels))
        self.encoder = _Encoder(layers, channels, levels, heads, points, feed_forward)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps (B, C, h, w) to maps of the same shapes."""
        shapes = [(m.shape[-2], m.shape[-1]) for m in maps]
        tokens = torch.cat([m.flatten(2).transpose(1, 2) for m in maps], dim=1)  # B, S, C
        positions = []
        for (height, width), level in zip(shapes, self.level_embed, strict=True):
            sine = sine_positions(height, width, tokens.shape[-1] // 2, device=tokens.device).to(tokens.dtype)
            positions.append(sine.flatten(2).transpose(1, 2) + level)
        reference = cell_centres(shapes, tokens.device).to(tokens.dtype)  # S, 2
        reference = reference[None, :, None, :].expand(tokens.shape[0], -1, len(shapes), -1)
        tokens = self.encoder(tokens, torch.cat(positions, dim=1), reference, shapes)
        areas = [height * width for height, width in shapes]
        return [
            level.transpose(1, 2).unflatten(-1, shape)
            for level, shape in zip(tokens.split(areas, dim=1), shapes, strict=True)
        ]


class PixelDecoder(nn.Module):
    """The deformable-attention pixel decoder.

    Args:
        inputs: channels of the backbone's four maps, finest first.
        channels: C of the encoder and of the top-down step, a multiple of 32 and of ``heads``.
        mask_channels: channels of the mask features.
        layers: of the encoder.
        heads: of its attention.
        points: sampling points for each head and level.
        feed_forward: hidden width of the encoder's feed-forward networks.
    """

    def __init__(
        self,
        inputs: Sequence[int],
        channels: int = 256,
        mask_channels: int = 256,
        layers: int = 6,
        heads: int = 8,
        points: int = 4,
        feed_forward: int = 1024,
    ) -> None:
        super().__init__()
        finest, *coarse = inputs
        self.input_proj = nn.ModuleList(  # coarsest first, as the encoder concatenates the levels
            nn.Sequential(_projection(count, channels), _group_norm(channels)) for count in reversed(coarse)
        )
        self.transformer = PyramidEncoder(layers, channels, len(coarse), heads, points, feed_forward)
        self.mask_features = nn.Conv2d(channels, mask_channels, 1)
        self.adapter_1 = ConvNorm(finest, channels, 1, _group_norm)
        self.layer_1 = ConvNorm(channels, channels, 3, _group_norm)
        for convolution in (self.mask_features, self.adapter_1, self.layer_1):
            nn.init.kaiming_uniform_(convolution.weight, a=1)
            if convolution.bias is not None:
                nn.init.zeros_(convolution.bias)

    def forward(self, features: dict[str, Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Decode the backbone's maps, in single precision at least: half precision is not enough for sampling points.

        Args:
            features: maps (B, C_s, H/s, W/s) by stage.

        Returns:
            Mask features (B, mask channels, H/4, W/4), and the encoder's maps (B, C, H/s, W/s), s = 32, 16, 8.
        """
        device = features[STAGES[0]].device.type
        with torch.autocast(device, enabled=False):
            finest, *coarse = (at_least_single(features[name]) for name in STAGES)
            maps = [project(m) for project, m in zip(self.input_proj, reversed(coarse), strict=True)]
            maps = self.transformer(maps)
            lateral = self.adapter_1(finest)
            upsampled = F.interpolate(maps[-1], size=lateral.shape[-2:], mode="bilinear", align_corners=False)
            fine = self.layer_1(lateral + upsampled).relu()
            return self.mask_features(fine), maps


def _projection(inputs: int, outputs: int) -> nn.Conv2d:
    convolution = nn.Conv2d(inputs, outputs, 1)
    nn.init.xavier_uniform_(convolution.weight)
    assert convolution.bias is not None
    nn.init.zeros_(convolution.bias)
    return convolution


def _group_norm(channels: int) -> nn.Module:
    return nn.GroupNorm(NORM_GROUPS, channels)
