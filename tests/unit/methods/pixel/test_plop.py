"""PLOP: thresholds, pseudo-labels, pooled distillation, and a whole increment."""

from __future__ import annotations

import math
from copy import deepcopy

import numpy as np
import pytest
import torch
from contexts import step_context
from hypothesis import given, settings
from hypothesis import strategies as st

from model.data.loading.pixel_batch import PixelBatch
from model.losses.entropy_pseudo_labels import (
    class_histograms,
    histogram_median,
    mean_entropy,
    normalised_entropy,
    pseudo_labels,
    released_median,
)
from model.losses.pooled_distillation import fold_new_channels, local_pod, local_pooled_embedding
from model.methods.registry import build
from model.networks.deeplabv3.network import DeepLabV3
from model.networks.registry import UnsuitableNetworkError, check_requirements
from model.scenario import Step

INCREMENT = Step(1, (11, 12), (13,))
CPU = torch.device("cpu")


@settings(deadline=None)  # the time of one example says nothing
@given(st.lists(st.floats(0, 0.999), min_size=1, max_size=200))
def test_median_of_a_histogram_is_as_good_as_its_bins(values: list[float]) -> None:
    zeros = torch.zeros(len(values), dtype=torch.long)
    uncertainty = torch.tensor(values, dtype=torch.double)
    histogram = class_histograms(uncertainty, zeros, zeros == 0, classes=1)[0]
    assert histogram.sum() == len(values)
    low = np.quantile(uncertainty.numpy(), 0.5, method="lower")
    high = np.quantile(uncertainty.numpy(), 0.5, method="higher")
    assert low - 0.0101 <= histogram_median(histogram) <= high + 0.0101


def test_the_released_median_stops_at_a_bin_with_half_of_everything() -> None:
    histogram = torch.zeros(100, dtype=torch.long)
    histogram[1], histogram[7], histogram[80] = 300, 600, 100
    assert released_median(histogram) == pytest.approx(0.07 + (500 - 21) / 600 / 100)
    assert histogram_median(histogram) == pytest.approx(0.07 + 200 / 600 / 100)
    spread = torch.full((100,), 5000)  # no bin holds half: the last one, far beyond the median
    assert released_median(spread) > 0.9 and histogram_median(spread) == pytest.approx(0.5)


def test_an_empty_histogram_has_no_median() -> None:
    empty = torch.zeros(100, dtype=torch.long)
    assert released_median(empty) == histogram_median(empty) == 0


def test_entropies_of_certainty_and_of_ignorance() -> None:
    logits = torch.zeros(1, 4, 1, 2)
    logits[:, 2, :, 0] = 100
    torch.testing.assert_close(normalised_entropy(logits), torch.tensor([[[0.0, 1.0]]]), atol=1e-6, rtol=0)
    torch.testing.assert_close(mean_entropy(logits), torch.tensor([[[0.0, 0.25]]]), atol=1e-6, rtol=0)


def test_pseudo_labels_fill_hidden_pixels_only() -> None:
    labels = torch.tensor([[[0, 0, 0, 3, 255, 2]]])
    predicted = torch.tensor([[[1, 2, 0, 1, 1, 1]]])
    uncertainty = torch.tensor([[[0.1, 0.1, 0.1, 0.0, 0.0, 0.0]]])
    thresholds = torch.tensor([0.2, 0.2, 0.05, 0.2])
    replaced, share = pseudo_labels(labels, predicted, uncertainty, thresholds, old_channels=3)
    assert replaced.tolist() == [[[1, 255, 0, 3, 255, 1]]]
    assert share.item() == pytest.approx(3 / 4)


def test_nothing_is_sure_below_a_threshold_that_is_no_number() -> None:
    zeros = torch.zeros(1, 2, 2)
    replaced, share = pseudo_labels(zeros.long(), zeros.long(), zeros, torch.tensor([math.nan]), old_channels=1)
    assert (replaced == 255).all() and share == 0


def test_equal_maps_have_no_distance() -> None:
    features = torch.randn(2, 3, 8, 8, requires_grad=True)
    value = local_pod(features, features.detach())
    value.backward()
    assert value == 0 and features.grad is not None and (features.grad == 0).all()


def test_strips_see_where_something_moved_to() -> None:
    """A global average would not."""
    one, other = torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)
    one[..., 0, 0], other[..., 5, 3] = 1, 1
    assert local_pod(one, other) > 0.1


def test_cells_of_a_map_that_is_not_square() -> None:
    features = torch.randn(1, 2, 6, 10)
    assert local_pooled_embedding(features, (1, 2)).shape == (1, 2 * (6 + 10) + 4 * 2 * (3 + 5))
    with pytest.raises(ValueError, match="a map of 6 x 10 has no 8 x 8 cells"):
        local_pooled_embedding(features, (8,))


def test_a_grid_finer_than_the_map_adds_nothing() -> None:
    features = torch.randn(1, 2, 3, 3)
    assert torch.equal(local_pooled_embedding(features, (1, 2, 4)), local_pooled_embedding(features, (1, 2)))


def test_new_channels_join_the_background() -> None:
    logits = torch.tensor([1.0, 2, 3, 4, 5]).view(1, 5, 1, 1)
    assert fold_new_channels(logits, 3).flatten().tolist() == [1 + 4 + 5, 2, 3]


def networks() -> tuple[DeepLabV3, DeepLabV3]:
    torch.manual_seed(0)
    network = DeepLabV3((2,), backbone="tiny", channels=8, rates=(1, 2, 3), output_stride=8, keep_stages=True)
    return network, deepcopy(network).eval().requires_grad_(False)


def test_an_increment(pixel_stream) -> None:
    method = build("plop", {"released_median": False, "released_entropy": False})
    network, old_model = networks()
    method.grow(network, INCREMENT)
    stream = pixel_stream(1)
    batches = [next(stream) for _ in range(2)]
    state = method.before_step(step_context(INCREMENT, network, old_model=old_model, batches=batches, state={}))
    assert state["thresholds"].shape == (4,) and (state["thresholds"] >= 0.001).all()
    assert method.after_step(step_context(INCREMENT, network, old_model=old_model, batches=batches, state=state)) == {}
    batch = next(pixel_stream(1, start=5))
    labels = batch.labels.clone()
    labels[:, :8], labels[:, 8:10] = 3, 255
    batch = PixelBatch(batch.images, labels, batch.names, batch.from_memory)
    outputs, old_outputs = network(batch.images), old_model(batch.images)
    targets = method.targets(step_context(INCREMENT, state=state), batch, old_outputs)
    assert (targets.labels[:, :8] == 3).all() and (targets.labels[:, 8:10] == 255).all()
    sure = targets.labels[:, 10:] != 255
    assert 0 < sure.float().mean() < 1  # some are sure, some are not: the median cuts in the middle
    torch.testing.assert_close(targets.image_weights, sure.float().mean(dim=(1, 2)), atol=1e-5, rtol=0)
    terms = method.losses(step_context(INCREMENT, network, state=state), batch, outputs, old_outputs, targets)
    assert terms.keys() == {"classification", "distillation"}
    sum(terms.values()).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_the_base_step_is_that_of_fine_tuning(pixel_stream) -> None:
    network, _ = networks()
    batch = next(pixel_stream(3))
    outputs, values = network(batch.images), []
    for name in ("plop", "finetuning"):
        method = build(name)
        targets = method.targets(step_context(Step(0, (), (11, 12))), batch, None)
        (term,) = method.losses(step_context(Step(0, (), (11, 12)), network), batch, outputs, None, targets).values()
        values.append(term)
    assert torch.equal(*values)


def test_images_without_a_sure_pixel_do_not_count(pixel_stream) -> None:
    network, old_model = networks()
    network.grow(1)
    batch = next(pixel_stream(1))
    old_outputs = old_model(batch.images)
    for rescale, expected in ((True, 0.0), (False, 1.0)):
        method = build("plop", {"rescale_images": rescale})
        targets = method.targets(step_context(INCREMENT, state={"thresholds": torch.zeros(4)}), batch, old_outputs)
        assert (targets.image_weights == expected).all()


def test_a_network_that_keeps_no_stages_is_refused() -> None:
    required = build("plop").network_arguments
    check_requirements({"name": "deeplabv3", "keep_stages": True}, required)
    with pytest.raises(UnsuitableNetworkError, match=r"network\.keep_stages is False, but has to be True"):
        check_requirements({"name": "deeplabv3"}, required)
    with pytest.raises(UnsuitableNetworkError, match=r"network\.background is False"):
        check_requirements({"name": "deeplabv3", "keep_stages": True, "background": False}, required)
