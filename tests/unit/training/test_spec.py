import copy
import json

import pytest

from model.scenario import Step
from model.training.spec import SpecError, parse_spec

GOOD = {
    "dataset": "shapes",
    "task": "semantic",
    "setting": "overlapped",
    "seed": 0,
    "step": {"index": 1, "past": [4, 2], "current": [7]},
    "method": {"name": "mib", "hyper_parameters": {"distillation_weight": 10.0}},
    "recipe": {
        "family": "per-pixel",
        "network": {"name": "deeplabv3", "backbone": "tiny"},
        "optimiser": {"name": "sgd", "learning_rate": 0.01},
        "iterations": 500,
        "epochs": None,
        "batch_size": 8,
        "transform": {"name": "random-resized-crop", "size": 64},
    },
}


def changed(path, value):
    spec = copy.deepcopy(GOOD)
    *parents, last = path.split(".")
    target = spec
    for key in parents:
        target = target[key]
    target[last] = value
    return json.dumps(spec)


def test_a_description_is_read_and_survives_a_round_trip():
    spec = parse_spec(json.dumps(GOOD))
    assert spec.step.step == Step(1, (4, 2), (7,))
    assert spec.recipe.precision == "fp32" and spec.recipe.accumulate == 1
    assert parse_spec(spec.model_dump_json()) == spec


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("seeds", [1], "seeds"),
        ("recipe.optimiser.learning_rate", 0, "recipe.optimiser.learning_rate"),
        ("recipe.optimiser.learning_rat", 0.1, "recipe.optimiser.learning_rat"),
        ("recipe.epochs", 3, "exactly one of 'iterations' and 'epochs'"),
        ("recipe.iterations", None, "exactly one of 'iterations' and 'epochs'"),
        ("recipe.accumulate", 3, "batch_size 8 is not divisible by accumulate 3"),
        ("recipe.network", {"backbone": "tiny"}, "'network' needs a 'name'"),
        ("recipe.precision", "fp8", "recipe.precision"),
        ("step.past", [], "exactly the base step"),
        ("step.current", [], "step.current"),
        ("step.current", [4], "a class is listed twice"),
        ("setting", "other", "setting"),
    ],
)
def test_a_wrong_entry_is_named(path, value, message):
    with pytest.raises(SpecError) as caught:
        parse_spec(changed(path, value))
    assert message in str(caught.value)


def test_what_is_no_json_is_an_error_of_the_same_kind():
    with pytest.raises(SpecError, match="spec: the whole"):
        parse_spec("{")
