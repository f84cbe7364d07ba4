"""Count pixels, segments and instances per image and class of a prepared split."""

import argparse
from contextlib import nullcontext
from pathlib import Path

from model.common.command_line import run, say
from model.common.fingerprints import job_code
from model.common.locks import exclusive_lock
from model.common.provenance import basis, record_beside, write_record
from model.data.prepared.class_index import build_class_index
from model.data.prepared.dataset import PreparedDataset


def main() -> None:
    """Parse the command line and scan one split."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, type=Path, help="dataset.json of the prepared dataset")
    parser.add_argument("--split", default="train", help="train (from which the steps are made) or val")
    parser.add_argument("--output", required=True, type=Path, help="class index to write (.npz)")
    parser.add_argument("--work", type=Path, help="folder whose lock keeps a second process from the data")
    parser.add_argument("--workers", type=int, default=1, help="threads that read label maps")
    arguments = parser.parse_args()
    record = record_beside(arguments.output)
    with exclusive_lock(arguments.work, say) if arguments.work else nullcontext():
        made_from = basis({"split": arguments.split}, job_code("index_classes.py"), {"dataset": arguments.data}, record)
        dataset = PreparedDataset.open(arguments.data.parent)
        build_class_index(dataset, arguments.split, arguments.workers).save(arguments.output)
        write_record(record, made_from, [arguments.output])


if __name__ == "__main__":
    run(main)
