"""YAML files: the one place that opens them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from model.config.messages import ConfigError


def read_yaml(file: Path) -> dict[str, Any]:
    """A YAML mapping from a file.

    Raises:
        ConfigError: if the file is missing, does not parse or holds no mapping.
    """
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{file}: no such file") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{file}: expected keys and values, found {type(content).__name__}")
    return content
