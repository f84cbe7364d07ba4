"""Draw image, ground truth and the predictions after each step of one run."""

import argparse
import json
from pathlib import Path

import numpy as np

from model.common.command_line import read_argument, run
from model.common.fingerprints import job_code
from model.common.provenance import basis, record_beside, write_record
from model.data.prepared.dataset import PreparedDataset
from model.reporting.class_colors import class_colors
from model.reporting.figures import save_figure
from model.reporting.gallery import gallery
from model.reporting.gallery_files import read_images


def main() -> None:
    """Parse the command line and write one picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, type=Path, help="dataset.json of the prepared dataset")
    parser.add_argument("--predictions", required=True, type=Path, nargs="+", help="one file per step, in order")
    parser.add_argument(
        "--classes", required=True, help="JSON, or @FILE with it: category ids known after each step, in learning order"
    )
    parser.add_argument("--title", required=True)
    parser.add_argument("--output", required=True, type=Path, help="picture to write (.png)")
    arguments = parser.parse_args()
    known_after = json.loads(read_argument(arguments.classes))
    spec = {"title": arguments.title, "classes": known_after}
    record = record_beside(arguments.output)
    predictions = {f"predictions {place}": file for place, file in enumerate(arguments.predictions)}
    made_from = basis(spec, job_code("draw_gallery.py"), {"dataset": arguments.data, **predictions}, record)
    dataset = PreparedDataset.open(arguments.data.parent)
    images = read_images(arguments.predictions)
    present = {label for image in images for label in np.unique(image.labels).tolist()}
    figure = gallery(
        images,
        known_after,
        class_colors(dataset.category_ids, present),
        {category.id: category.name for category in dataset.categories},
        arguments.title,
        dataset.background_id,
        dataset.void_id,
        ["all classes at once"] if len(known_after) == 1 else None,
    )
    save_figure(figure, arguments.output)
    write_record(record, made_from, [arguments.output])


if __name__ == "__main__":
    run(main)
