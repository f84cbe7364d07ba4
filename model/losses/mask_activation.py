"""From mask logits to mask probabilities: two kinds of networks.

Mask2Former (CVPR 2022) asks of every query and pixel whether they belong together: a sigmoid, so that masks may overlap.
CoMFormer (CVPR 2023) asks of every pixel which query it belongs to: a softmax over the queries, so that they share it out.

Which of the two holds is a property of the network. Its decoder (where a query looks), its criterion (matching and mask
losses), the pseudo targets from an old network and all post-processing at test time follow it.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

MaskActivation = Literal["sigmoid", "softmax"]


def mask_probabilities(logits: Tensor, activation: MaskActivation) -> Tensor:
    """Probabilities of all masks of an image.

    Args:
        logits: (…, Q, H, W) mask logits; all queries of an image, because a softmax compares them.
        activation: of the network.

    Returns:
        The same shape; with ``softmax`` the queries of a pixel sum to 1.
    """
    return logits.sigmoid() if activation == "sigmoid" else logits.softmax(dim=-3)
