"""One small generated dataset for all tests of this folder, made once."""

from pathlib import Path

import pytest

from model.data.prepared.dataset import PreparedDataset
from model.data.sources.prepare import prepare

OPTIONS = {"train_images": 60, "val_images": 24}


@pytest.fixture(scope="session")
def shapes_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    prepare("shapes", OPTIONS, folder, name="shapes")
    return folder


@pytest.fixture(scope="session")
def shapes(shapes_folder: Path) -> PreparedDataset:
    return PreparedDataset.open(shapes_folder)
