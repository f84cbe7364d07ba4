import random

import numpy as np
import torch

from model.training.random_states import random_states, set_random_states

CPU = torch.device("cpu")


def draws():
    return random.random(), random.gauss(0, 1), np.random.randn(), np.random.rand(), torch.rand(3).tolist()


def test_every_generator_goes_on_where_it_was():
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    random.gauss(0, 1), np.random.randn()  # leave cached values in both generators
    states = random_states(CPU)
    expected = draws()
    assert draws() != expected
    set_random_states(states, CPU)
    assert draws() == expected


def test_a_state_of_a_gpu_is_no_state_of_a_cpu():
    states = {**random_states(CPU), "cuda": torch.zeros(16, dtype=torch.uint8)}
    expected = draws()
    set_random_states(states, CPU)
    assert draws() == expected
