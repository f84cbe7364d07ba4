"""What the sparsity terms say about few large channels and about many equal ones, on whatever scale the features are."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from model.losses.sparsity import Normalisation, Shrinking, sparsity

SPARSE = torch.tensor([[1.0, 0.1, 0.0, 0.0]]).T.repeat(1, 6).view(1, 4, 2, 3)
EVEN = torch.tensor([[1.0, 0.9, 0.8, 0.7]]).T.repeat(1, 6).view(1, 4, 2, 3)
LABELS = torch.tensor([[[0, 1, 1], [2, 2, 255]]])


@pytest.mark.parametrize("shrinking", get_args(Shrinking))
@pytest.mark.parametrize("normalisation", get_args(Normalisation))
def test_the_ratio_of_a_sparse_code_is_the_larger_one(normalisation, shrinking) -> None:
    """As the docstring says: whatever the term does in training, it does not do it by making features sparser."""
    values = [sparsity(x, LABELS, normalisation=normalisation, shrinking=shrinking) for x in (SPARSE, EVEN)]
    assert values[0] > values[1]


@pytest.mark.parametrize("normalisation", ["l1", "softmax"])
def test_the_entropy_of_a_sparse_code_is_lower(normalisation) -> None:
    sparse, even = (sparsity(x, normalisation=normalisation, form="entropy") for x in (SPARSE, EVEN))
    assert sparse < even


@pytest.mark.parametrize("normalisation", ["class-max", "pixel-max", "batch-max", "l1", "l2"])
def test_the_scale_of_the_features_does_not_count(normalisation) -> None:
    features = torch.rand(2, 4, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = LABELS.repeat(2, 1, 1)
    values = [sparsity(scale * features, labels, normalisation=normalisation) for scale in (1, 50)]
    torch.testing.assert_close(*values)


def test_the_class_maximum_takes_out_the_scale_of_every_class() -> None:
    features = torch.rand(1, 4, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    scaled = features * torch.where(LABELS == 1, 7.0, 1.0).unsqueeze(1)
    torch.testing.assert_close(sparsity(scaled, LABELS), sparsity(features, LABELS))
    other = features * torch.tensor([[[1.0, 7.0, 1.0], [1.0, 1.0, 1.0]]]).unsqueeze(1)  # one of two pixels of a class
    assert not torch.isclose(sparsity(other, LABELS), sparsity(features, LABELS))


def test_a_batch_of_background_has_no_term() -> None:
    assert sparsity(EVEN, torch.zeros_like(LABELS)) == 0
    assert sparsity(EVEN, torch.where(LABELS == 255, 255, 0)) != 0


def test_the_class_maximum_needs_labels() -> None:
    with pytest.raises(ValueError, match="class-max needs labels"):
        sparsity(EVEN)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_dead_pixels_stay_finite_in_half_precision(dtype: torch.dtype) -> None:
    features = torch.zeros(1, 4, 2, 3, dtype=dtype)
    features[:, :, 0] = 1
    features.requires_grad_()
    labels = torch.tensor([[[1, 1, 1], [2, 1, 1]]])
    value = sparsity(features, labels, shrinking="squared")
    (gradient,) = torch.autograd.grad(value, features)
    assert value.dtype == torch.float32 and torch.isfinite(value)
    assert torch.isfinite(gradient).all()
