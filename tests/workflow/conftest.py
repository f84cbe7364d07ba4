"""One run of the micro configuration for all tests of a worker."""

import pytest
from checkout import Checkout, fresh_checkout


@pytest.fixture(scope="session")
def micro(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The micro configuration has run here; tests only read it, or take a copy."""
    checkout = fresh_checkout(tmp_path_factory.mktemp("micro"))
    done = checkout.snakemake()
    assert done.returncode == 0, done.stderr + done.stdout
    return checkout
