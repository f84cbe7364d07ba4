"""What tests of several folders share: command-line options, and one run of the micro configuration."""

import os
import shutil

import pytest
from checkout import Checkout, fresh_checkout
from filelock import FileLock
from hypothesis import HealthCheck, settings

# How long an example takes says nothing about the code where several workers share a processor.
settings.register_profile("segue", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("segue")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--chaos-kills",
        type=int,
        default=3,
        help="how often the chaos test kills a running workflow or training (default: 3)",
    )
    parser.addoption(
        "--chaos-seed", type=int, default=0, help="seed of the moments and kinds of these kills (default: 0)"
    )

    parser.addoption(
        "--histories", type=int, default=4, help="how many random histories of a project are played (default: 4)"
    )
    parser.addoption("--histories-seed", type=int, default=0, help="number of the first of them (default: 0)")


@pytest.fixture(scope="session")
def micro(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The micro configuration has run here, once for all workers; tests only read it, or take a copy."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    complete = shared / "micro-complete"
    with FileLock(shared / "micro-lock"):
        if not complete.exists():
            shutil.rmtree(shared / "micro", ignore_errors=True)
            checkout = fresh_checkout(shared / "micro")
            done = checkout.snakemake()
            assert done.returncode == 0, done.stderr + done.stdout
            complete.touch()
    return Checkout(shared / "micro")
