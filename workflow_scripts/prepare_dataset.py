"""Bring a raw source into the prepared form; restartable, so an interrupted run resumes where it stopped."""

import argparse
import json
from contextlib import nullcontext
from pathlib import Path

from model.common.command_line import read_argument, run, say
from model.common.environment import expand
from model.common.fingerprints import combined_fingerprint, job_code
from model.common.locks import exclusive_lock
from model.common.provenance import basis, record_beside, write_record
from model.data.sources.prepare import prepare
from model.data.sources.registry import module_of


def main() -> None:
    """Parse the command line and prepare one dataset."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", required=True, help='JSON: {"name": …, "kind": …, "options": {…}}')
    parser.add_argument("--manifest", required=True, type=Path, help="dataset.json to write; its folder holds the data")
    parser.add_argument("--token", default="", help="what planning says of the raw data; other text, other data")
    parser.add_argument("--work", type=Path, help="folder whose lock keeps a second process from the data")
    parser.add_argument("--workers", type=int, default=1, help="processes that read and write images")
    arguments = parser.parse_args()
    spec = json.loads(read_argument(arguments.spec))
    options = {key: expand(value) for key, value in spec["options"].items()}
    code = job_code("prepare_dataset.py", module_of(spec["kind"]))
    record = record_beside(arguments.manifest)
    with exclusive_lock(arguments.work, say) if arguments.work else nullcontext():
        made_from = basis(spec, code, {}, record)
        prepare(
            spec["kind"],
            options,
            arguments.manifest.parent,
            name=spec["name"],
            workers=arguments.workers,
            code=combined_fingerprint(code),
            spec=spec,
            token=arguments.token,
        )
        write_record(record, made_from, [arguments.manifest])


if __name__ == "__main__":
    run(main)
