"""Finding the tensors in outputs and batches, and replacing them."""

from __future__ import annotations

import pytest
import torch

from model.data.loading.mask_batch import MaskBatch, MaskTargets
from model.data.loading.pixel_batch import PixelBatch
from model.networks.deeplabv3.outputs import UpsampledOutputs
from model.networks.mask2former.outputs import MaskOutputs, MaskPrediction
from model.training.trees import images_of, joined_batches, replaced, tensors_of, with_tensors


def test_outputs_of_masks_are_taken_apart_and_put_together() -> None:
    prediction = MaskPrediction(torch.zeros(2, 3, 4), torch.zeros(2, 3, 8, 8))
    outputs = MaskOutputs(
        (prediction,), (torch.zeros(2, 3, 5),), torch.zeros(2, 5, 8, 8), {"res2": torch.ones(2, 1)}, (32, 32), "sigmoid"
    )
    tensors = tensors_of(outputs)
    assert [tuple(t.shape) for t in tensors] == [(2, 3, 4), (2, 3, 8, 8), (2, 3, 5), (2, 5, 8, 8), (2, 1)]
    other = with_tensors(outputs, [tensor + 1 for tensor in tensors])
    assert isinstance(other, MaskOutputs) and other.image_size == (32, 32)
    assert other.features["res2"].unique().item() == 2 and outputs.features["res2"].unique().item() == 1


def test_logits_that_are_up_sampled_when_asked_for_still_are() -> None:
    """And a tensor that stands in two places remains one."""
    outputs = UpsampledOutputs(
        pre_logits=torch.zeros(2, 3, 4, 4),
        body=torch.zeros(2, 3, 4, 4),
        coarse_logits=torch.zeros(2, 5, 4, 4),
        size=(8, 8),
    )
    assert len(tensors_of(outputs)) == 3
    other = replaced(outputs, lambda tensor: tensor + 1)
    assert other.logits.shape == (2, 5, 8, 8) and other.logits.unique().item() == 1
    assert other.compact_logits is other.coarse_logits


def pixel_batch(first: int, images: int) -> PixelBatch:
    return PixelBatch(
        images=torch.arange(first, first + images).float().view(-1, 1, 1, 1).expand(-1, 3, 4, 4),
        labels=torch.zeros(images, 4, 4, dtype=torch.int64),
        names=tuple(f"image{k}" for k in range(first, first + images)),
        from_memory=torch.zeros(images, dtype=torch.bool),
    )


def test_batches_are_divided_and_joined_image_by_image() -> None:
    whole = joined_batches([pixel_batch(0, 2), pixel_batch(2, 1)])
    assert whole.names == ("image0", "image1", "image2") and whole.images[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert whole.saliency is None
    part = images_of(whole, slice(1, 3))
    assert part.names == ("image1", "image2") and part.images[:, 0, 0, 0].tolist() == [1, 2] and len(part.labels) == 2


def mask_batch(images: int, side: int) -> MaskBatch:
    targets = MaskTargets(torch.tensor([3]), torch.ones(1, side, side, dtype=torch.bool))
    return MaskBatch(
        images=torch.ones(images, 3, side, side),
        labels=(targets,) * images,
        sizes=((side, side),) * images,
        names=("image",) * images,
        from_memory=torch.zeros(images, dtype=torch.bool),
    )


@pytest.mark.parametrize("images", [1, 2])
def test_masks_of_several_canvases_are_joined_on_the_largest(images: int) -> None:
    joined = joined_batches([mask_batch(images, 32).padded(64, 96), mask_batch(images, 64).padded(64, 96)])
    assert joined.images.shape == (2 * images, 3, 64, 96) and len(joined.labels) == 2 * images
    assert [int(one.masks.sum()) for one in joined.labels] == [32 * 32] * images + [64 * 64] * images
    assert joined.sizes[0] == (32, 32)
