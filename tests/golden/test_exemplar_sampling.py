"""Class-balanced selection against SSUL's exemplar sampling."""

import numpy as np
import pytest
from golden import Case, cases_holding, load

from model.memory.class_balanced import select_class_balanced


@pytest.mark.parametrize("case", cases_holding("g_ssul", "memory_list"))
def test_class_balanced_selection(case: Case) -> None:
    recording = load(case)
    labels, config = recording.arrays["labels"], recording.config
    first, last = (int(n) for n in config["classes"].split(" ")[0].split(".."))
    shift = 1 if config["unknown"] else 0  # with an unknown class, label 0 is unknown and background is 1
    classes = np.arange(first, last + 1) + shift
    presence = np.array([np.isin(classes, label_map) for label_map in labels])
    legacy = np.random.RandomState(config["numpy_random_seed"])
    picked = select_class_balanced(presence, config["memory_size"], legacy)
    assert sorted(picked) == recording.arrays["selected"].tolist()
    assert [f"img{row:03d}" for row in sorted(picked)] == config["memory_list"]
