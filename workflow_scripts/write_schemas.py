"""Write the JSON schemas of the configuration from its types; editors complete and check YAML files with them."""

import argparse
import json
from pathlib import Path

from model.config.schema import Config, Recipe


def main() -> None:
    """Parse the command line and write both schemas."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("schemas"))
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, model in (("config", Config), ("recipe", Recipe)):
        schema = json.dumps(model.model_json_schema(), indent=2, sort_keys=True) + "\n"
        (folder / f"{name}.schema.json").write_text(schema, encoding="utf-8")


if __name__ == "__main__":
    main()
