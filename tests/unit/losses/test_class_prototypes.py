"""Prototypes are means over everything seen; the terms around them move features the way they promise."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from model.losses.class_prototypes import (
    Regions,
    attraction,
    class_sums,
    present_classes,
    prototype_matching,
    repulsion,
    running_prototypes,
)

CHANNELS, CLASSES = 5, 4


def features_and_labels(seed: int, images: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    features = torch.rand(images, CHANNELS, 4, 3, generator=generator, dtype=torch.float64)
    return features, torch.randint(0, CLASSES, (images, 4, 3), generator=generator)


def pixels(features: Tensor, labels: Tensor, c: int) -> Tensor:
    """(n, C), gathered one pixel after the other."""
    places = (labels == c).nonzero().tolist()
    return torch.stack([features[b, :, y, x] for b, y, x in places])


@given(st.integers(0, 1000), st.lists(st.integers(1, 3), min_size=1, max_size=4))
def test_prototypes_are_means_of_all_pixels_however_they_are_cut_into_batches(seed: int, batches: list[int]) -> None:
    features, labels = features_and_labels(seed, sum(batches))
    prototypes, counts = torch.zeros(CLASSES, CHANNELS, dtype=torch.float64), torch.zeros(CLASSES, dtype=torch.float64)
    for batch, batch_labels in zip(features.split(batches), labels.split(batches), strict=True):
        sums = class_sums(batch, batch_labels, present_classes(batch_labels), CLASSES)
        prototypes, counts = running_prototypes(prototypes, counts, *sums)
    for c in present_classes(labels):
        assert counts[c] == (labels == c).sum()
        torch.testing.assert_close(prototypes[c], pixels(features, labels, c).mean(dim=0))


def test_a_class_that_is_not_in_the_batch_keeps_its_prototype() -> None:
    features, labels = features_and_labels(0)
    labels[labels == 2] = 1
    prototypes, counts = torch.rand(CLASSES, CHANNELS), torch.full((CLASSES,), 7.0)
    sums = class_sums(features, labels, present_classes(labels), CLASSES)
    after, after_counts = running_prototypes(prototypes, counts, *sums)
    assert torch.equal(after[2], prototypes[2]) and after_counts[2] == 7
    assert not torch.equal(after[1], prototypes[1])


def test_a_long_training_still_counts_single_pixels() -> None:
    counts, prototypes = torch.tensor([3e8], dtype=torch.float64), torch.zeros(1, CHANNELS)
    sums, new = torch.full((1, CHANNELS), 3.0), torch.tensor([1.0])
    for _ in range(3):
        prototypes, counts = running_prototypes(prototypes, counts, sums, new)
    assert counts.item() == 3e8 + 3
    torch.testing.assert_close(prototypes, torch.full((1, CHANNELS), 3e-8), rtol=1e-4, atol=0)


@pytest.mark.parametrize(("images", "equal"), [(1, True), (2, False)])
def test_the_released_order_is_right_for_one_image_only(images: int, equal: bool) -> None:
    features, labels = features_and_labels(1, images)
    regions = Regions.of(labels)
    ordered = regions.sorted_features(features)
    released, right = (regions.rows(ordered, 1, layout) for layout in ("released-columns", "pixels"))
    assert torch.equal(right, pixels(features, labels, 1))
    assert torch.equal(released, right) == equal
    torch.testing.assert_close(released.flatten().sort().values, right.flatten().sort().values)


def test_classes_of_a_batch() -> None:
    labels = torch.tensor([[255, 3, 0], [3, 5, 255]])
    assert present_classes(labels) == [0, 3, 5]
    assert present_classes(labels, skip_first=True) == present_classes(labels, skip_background=True) == [3, 5]
    without = torch.where(labels == 0, 3, labels)
    assert present_classes(without, skip_background=True) == [3, 5]
    assert present_classes(without, skip_first=True) == [5]  # the defect of the released code
    assert present_classes(torch.full((2, 2), 255)) == present_classes(torch.full((2, 2), 255), skip_first=True) == []


@pytest.mark.parametrize("norm", [False, True])
def test_matching_moves_only_old_pixels_and_only_until_their_mean_is_the_prototype(norm: bool) -> None:
    features, labels = features_and_labels(2)
    places = torch.where(labels == 2, labels, 0)
    prototypes = torch.rand(CLASSES, CHANNELS, dtype=torch.float64)
    features.requires_grad_()
    (gradient,) = torch.autograd.grad(prototype_matching(features, places, prototypes, norm=norm), features)
    moved = gradient.abs().sum(dim=1) > 0
    assert torch.equal(moved, labels == 2)
    prototypes[2] = pixels(features.detach(), labels, 2).mean(dim=0)
    assert prototype_matching(features, places, prototypes, norm=norm) < 1e-12


def test_matching_by_pixel_is_a_sum_over_classes_and_bounds_the_distance_of_the_means() -> None:
    features, labels = features_and_labels(3)
    prototypes = torch.rand(CLASSES, CHANNELS, dtype=torch.float64)
    one, other = (torch.where(labels == c, labels, 0) for c in (1, 3))
    both = torch.where((labels == 1) | (labels == 3), labels, 0)
    by_pixel = [prototype_matching(features, places, prototypes, each_pixel=True) for places in (one, other, both)]
    torch.testing.assert_close(by_pixel[0] + by_pixel[1], by_pixel[2])
    assert prototype_matching(features, one, prototypes) < by_pixel[0]


def test_attraction_vanishes_at_the_prototypes_and_grows_with_the_distance() -> None:
    _, labels = features_and_labels(4)
    prototypes = torch.rand(CLASSES, CHANNELS, dtype=torch.float64)
    at_home, classes = prototypes[labels].permute(0, 3, 1, 2), present_classes(labels)
    assert attraction(at_home, labels, prototypes, classes) == 0
    near, far = (attraction(at_home + d, labels, prototypes, classes) for d in (0.1, 0.2))
    torch.testing.assert_close(near, torch.tensor(0.01, dtype=torch.float64))
    assert far > near


def test_the_released_division_weighs_the_last_class_most() -> None:
    features, labels = features_and_labels(5)
    labels = torch.where(labels == 0, 1, labels)
    prototypes = torch.rand(CLASSES, CHANNELS, dtype=torch.float64)
    single = [attraction(features, labels, prototypes, [c]) for c in (1, 2, 3)]
    plain = attraction(features, labels, prototypes, [1, 2, 3])
    released = attraction(features, labels, prototypes, [1, 2, 3], released_division=True)
    torch.testing.assert_close(plain, sum(single) / 3)
    torch.testing.assert_close(released, single[0] / 27 + single[1] / 9 + single[2] / 3)


@pytest.mark.parametrize("form", ["means", "prototypes", "orthogonal", "orthogonal-max"])
def test_a_step_against_the_gradient_of_the_repulsion_lowers_it(form) -> None:
    features, labels = features_and_labels(6)
    prototypes = torch.rand(CLASSES, CHANNELS, dtype=torch.float64)
    features.requires_grad_()
    before = repulsion(features, labels, prototypes, [1, 2, 3], form=form)
    (gradient,) = torch.autograd.grad(before, features)
    assert repulsion(features - 0.01 * gradient, labels, prototypes, [1, 2, 3], form=form) < before
    assert not gradient.permute(0, 2, 3, 1)[labels == 0].any()


def test_repulsion_is_the_mean_inverse_distance_of_pairs() -> None:
    features, labels = features_and_labels(7)
    means = [pixels(features, labels, c).mean(dim=0) for c in (0, 1, 2)]
    distances = [(means[a] - means[b]).norm() for a, b in ((0, 1), (0, 2), (1, 2))]
    expected = torch.stack([1 / d for d in distances]).mean()
    torch.testing.assert_close(repulsion(features, labels, torch.zeros(3, CHANNELS), [0, 1, 2]), expected)


@pytest.mark.parametrize("classes", [[], [1]])
def test_nothing_to_compare_is_nothing_to_lose(classes: list[int]) -> None:
    features, labels = features_and_labels(8)
    features.requires_grad_()
    labels = torch.full_like(labels, 255) if not classes else torch.ones_like(labels)
    prototypes = torch.zeros(CLASSES, CHANNELS, dtype=torch.float64)
    total = repulsion(features, labels, prototypes, classes) + prototype_matching(features, labels * 0, prototypes)
    total = total + attraction(features, labels, prototypes, [])
    assert total == 0
    assert total.requires_grad is False or torch.isfinite(torch.autograd.grad(total, features)[0]).all()


def test_equal_means_give_finite_gradients() -> None:
    labels = torch.tensor([[[0, 1], [2, 2]]])
    features = torch.ones(1, CHANNELS, 2, 2, dtype=torch.float64)
    features[:, :, 1] = 3
    features.requires_grad_()
    value = repulsion(features, labels, torch.zeros(CLASSES, CHANNELS), [0, 1, 2])
    (gradient,) = torch.autograd.grad(value, features)
    assert torch.isfinite(value) and torch.isfinite(gradient).all()
