"""Write the JSON schemas of the configuration from its types; editors complete and check YAML files with them."""

import argparse
import json
from pathlib import Path

from model.config.json_schema import config_schema, recipe_schema


def main() -> None:
    """Parse the command line and write both schemas."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("schemas"))
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, schema in (("config", config_schema()), ("recipe", recipe_schema())):
        text = json.dumps(schema, indent=2, sort_keys=True) + "\n"
        (folder / f"{name}.schema.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
