"""Scripts of other packages that the site takes along, so that nothing is loaded from elsewhere: Plotly and DataTables."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

from model.common.files import write_text

_MODULE = "window.tableModule = import(URL.createObjectURL(new Blob([{source}], {{type: 'text/javascript'}})));\n"
"""Pages that were opened from a folder may not import modules of files, but they may of what they made themselves."""


class AssetError(ValueError):
    """A package that the site needs and that is not installed."""


def copy_assets(folder: Path) -> None:
    """Write ``plotly.js``, ``tables.js`` and ``tables.css``.

    Raises:
        AssetError: naming the package that is missing.
    """
    write_text(folder / "plotly.js", _read("plotly", "package_data/plotly.min.js"))
    source = json.dumps(_read("itables", "html/dt_bundle.js"))
    write_text(folder / "tables.js", _MODULE.format(source=source))
    write_text(folder / "tables.css", _read("itables", "html/dt_bundle.css"))


def _read(package: str, file: str) -> str:
    found = find_spec(package)  # not imported: only a file of it is wanted
    for place in (found.submodule_search_locations or []) if found is not None else []:
        if (path := Path(place) / file).is_file():
            return path.read_text(encoding="utf-8")
    raise AssetError(f"the package '{package}' is not installed, or has no {file}; run `make setup`")
