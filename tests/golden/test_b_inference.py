"""Post-processing alone, position encodings, point sampling."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden import Case, assert_close, cases_holding, load, unpack_bits

from model.losses.point_sampling import sample_points
from model.networks.mask2former.assembly import assemble_panoptic, best_instances, semantic_votes, sure_queries
from model.networks.mask2former.positions import sine_positions

GROUP = "b_inference"


@pytest.mark.parametrize("case", cases_holding(GROUP, "sem_seg"))
def test_post_processing(case: Case) -> None:
    recording = load(case)
    config, arrays = recording.config, recording.arrays
    classes, masks = recording.tensor("pred_logits").softmax(dim=-1), recording.tensor("pred_masks").sigmoid()
    things = torch.zeros(config["K"], dtype=torch.bool)
    things[config["things"]] = True
    assert_close(semantic_votes(classes[:, :-1], masks), arrays["sem_seg"], GROUP, "float32")
    candidates = sure_queries(classes, masks, config["object_mask_threshold"])
    ids, segments = assemble_panoptic(candidates, things, config["overlap_threshold"])
    np.testing.assert_array_equal(ids.numpy(), arrays["panoptic_seg"])
    rows = np.array([(s.id, s.category, s.isthing) for s in segments]).reshape(-1, 3)
    np.testing.assert_array_equal(rows, arrays["panoptic_info"])
    reported = things if config["panoptic_on_while_computing_instances"] else None
    instances = best_instances(classes[:, :-1], masks, config["topk"], reported)
    assert_close(instances.scores, arrays["instances.scores"], GROUP, "float32")
    np.testing.assert_array_equal(instances.classes.numpy(), arrays["instances.classes"])
    recorded = unpack_bits(arrays["instances.masks"], instances.masks.shape)
    np.testing.assert_array_equal(instances.masks.numpy(), recorded)


@pytest.mark.parametrize("case", cases_holding(GROUP, "out_masked"))
def test_position_sine(case: Case) -> None:
    recording = load(case)
    config, expected = recording.config, recording.arrays["out"]
    features = config["num_pos_feats"]
    options = {"normalise": config["normalize"], "temperature": config["temperature"]}
    plain = sine_positions(*expected.shape[-2:], features, **options)
    assert_close(plain.expand(len(expected), -1, -1, -1), expected, GROUP, "float32")
    padded = recording.tensor("mask", torch.bool)
    masked = sine_positions(*expected.shape[-2:], features, padded=padded, **options)
    assert_close(masked, recording.arrays["out_masked"], GROUP, "float32")


@pytest.mark.parametrize("case", cases_holding(GROUP, "points"))
def test_point_sample(case: Case) -> None:
    recording = load(case)
    maps = recording.tensor("input").requires_grad_()
    output = sample_points(maps, recording.tensor("points"))
    assert_close(output, recording.arrays["output"], GROUP, "float64")
    output.backward(recording.tensor("grad_output"))
    assert_close(maps.grad, recording.arrays["grad_input"], GROUP, "float64")
