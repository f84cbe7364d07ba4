"""Our Mask2Former, written for transformers, gives the same outputs there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from model.interop.transformers_mask2former import TransformersError, to_transformers
from model.networks import registry as networks

transformers = pytest.importorskip("transformers", reason="transformers is not installed")

SMALL = {
    **{"backbone": "tiny", "norm": "bn", "channels": 64, "encoder_layers": 2, "decoder_layers": 3, "queries": 7},
    **{"encoder_heads": 4, "decoder_heads": 4, "encoder_feed_forward": 48, "decoder_feed_forward": 80},
}


def built(classes: list[int], **changes: Any) -> tuple[torch.nn.Module, dict[str, Any]]:
    arguments = {**SMALL, **changes}
    torch.manual_seed(0)
    network = networks.build("mask2former", classes, arguments).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.is_floating_point() and value.dim() == 1:
                value.add_(0.1 * torch.rand(value.shape, generator=generator))
            elif "query" in name:
                value.copy_(torch.randn(value.shape, generator=generator))
    return network, {"name": "mask2former", **arguments}


@pytest.mark.parametrize(("head", "classes"), [("joint", [5]), ("steps", [3, 2, 1])])
def test_outputs_are_the_same_after_a_round_through_a_folder(tmp_path: Path, head: str, classes: list[int]) -> None:
    network, arguments = built(classes, head=head)
    to_transformers(network, arguments, {0: "sky", 1: "sea"}).save_pretrained(tmp_path)
    other = transformers.Mask2FormerForUniversalSegmentation.from_pretrained(tmp_path).eval()
    assert other.config.id2label[1] == "sea" and len(other.config.id2label) == sum(classes)
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours, theirs = network(images).predictions[-1], other(pixel_values=images)
    torch.testing.assert_close(theirs.class_queries_logits, ours.logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(theirs.masks_queries_logits, ours.masks, atol=1e-4, rtol=1e-4)
    assert ours.logits.std() > 0.1 and ours.masks.std() > 0.01


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"norm": "gn"}, "network.norm is 'gn'"),
        ({"mask_activation": "softmax"}, "network.mask_activation is 'softmax'"),
        ({"head": "separate-no-object"}, "network.head is 'separate-no-object'"),
        ({"encoder_heads": 2}, "network.encoder_heads is 2"),
    ],
)
def test_what_cannot_be_expressed_says_why(changes: dict[str, Any], said: str) -> None:
    network, arguments = built([3], **changes)
    with pytest.raises(TransformersError, match=said):
        to_transformers(network, arguments)


def test_other_networks_are_refused() -> None:
    with pytest.raises(TransformersError, match="no network such as 'deeplabv3'"):
        to_transformers(torch.nn.Linear(1, 1), {"name": "deeplabv3"})
