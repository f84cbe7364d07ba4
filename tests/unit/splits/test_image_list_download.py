"""Published lists from a local server: fetched once, refused if they are others."""

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from archive_server import Offer, serving

from model.splits.image_list_download import obtain_list
from model.splits.image_lists import ImageList, ImageListError, content_hash, published_lists

WANTED = ImageList("100-50/train-0.npy", sha256=content_hash([3, 1, 4]), images=3, total=20)


def array(*positions: int) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array(positions))
    return stream.getvalue()


def test_a_list_is_fetched_once_and_its_content_counts(tmp_path):
    offer = Offer({"index-lists/100-50/train-0.npy": array(4, 3, 1)}, breaks=[20])
    file = tmp_path / "lists" / "100-50" / "train-0.npy"
    with serving(offer) as address:
        obtain_list(WANTED, file, address)
        asked = len(offer.asked)
        obtain_list(WANTED, file, address)
    assert np.load(file).tolist() == [4, 3, 1]
    assert asked == 2 and len(offer.asked) == asked, "broken once, gone on with, and not asked for again"


def test_another_list_is_refused_and_does_not_stay(tmp_path):
    file = tmp_path / "train-0.npy"
    offer = Offer({"index-lists/100-50/train-0.npy": array(4, 3, 2)})
    with serving(offer) as address, pytest.raises(ImageListError, match="is not the published list of 3 images"):
        obtain_list(WANTED, file, address)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_list_that_was_there_before_is_named_and_stays(tmp_path):
    file = tmp_path / "train-0.npy"
    file.write_bytes(array(4, 3, 2))
    with pytest.raises(ImageListError, match="is not the published list of 3 images"):
        obtain_list(WANTED, file, "http://nowhere.invalid")
    assert file.read_bytes() == array(4, 3, 2)


@pytest.mark.skipif(not os.environ.get("SEGUE_DATA"), reason="SEGUE_DATA is not set: published lists are not at hand")
def test_every_published_list_passes_from_a_server_to_the_disk(tmp_path):
    content = json.loads((Path(os.environ["SEGUE_DATA"]) / "protocol" / "ade_index_lists.json").read_text())
    wanted = {one.file: one for lists in published_lists("ade20k") for one in lists.steps}
    files = {}
    for file in wanted:
        task, _, name = file.partition("/")
        files[f"index-lists/{file}"] = array(*content[task]["train"][name.removeprefix("train-").removesuffix(".npy")])
    with serving(Offer(files)) as address:
        for file, one in wanted.items():
            obtain_list(one, tmp_path / file, address)
    assert len(wanted) == 20 and all((tmp_path / file).is_file() for file in wanted)
