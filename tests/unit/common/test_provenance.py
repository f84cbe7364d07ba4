"""Records of what results were made from."""

import json
import os
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.common.json_files import write_checked
from model.common.provenance import (
    Basis,
    Kept,
    basis,
    checksum,
    read_provenance,
    record_beside,
    write_kept,
    write_record,
)

CODE = {"model.training.loop": "a1", "model.methods.pixel.mib": "b2"}
names = st.text(st.characters(codec="ascii", categories=("L",)), min_size=1, max_size=6)
mappings = st.dictionaries(names, st.text(max_size=4), max_size=3)


@pytest.fixture
def files(tmp_path):
    found = {name: tmp_path / f"results/{name}.json" for name in ("split", "memory", "out")}
    (tmp_path / "results").mkdir()
    for name, path in found.items():
        path.write_text(f"content of {name}")
    return found


@given(mappings, mappings, mappings, mappings)
def test_equal_keys_mean_equal_spec_and_code(spec, code, other_spec, other_code):
    one, other = Basis(spec, code), Basis(other_spec, other_code)
    assert (one.key == other.key) == ((spec, code) == (other_spec, other_code))


def test_the_key_follows_the_content_of_every_input_and_not_its_name_or_time(files):
    record = files["out"]

    def key(**inputs):
        return basis({}, CODE, inputs, record).key

    before = key(split=files["split"], memory=None)
    os.utime(files["split"], (1, 1))
    moved = files["split"].with_name("elsewhere.json")
    shutil.copy(files["split"], moved)
    assert key(split=files["split"]) == key(split=moved) == before
    others = [key(memory=files["split"]), key(split=files["memory"]), key(split=files["split"], memory=files["memory"])]
    files["split"].write_text("edited")
    assert len({before, *others, key(split=files["split"])}) == 5


def test_a_record_tells_what_a_result_was_made_from_wherever_it_is_moved(files, tmp_path):
    record = record_beside(files["out"])
    assert record.name == "out.made_by.json"
    made_from = basis({"size": 6}, CODE, {"split": files["split"], "memory": None}, record)
    write_record(record, made_from, [files["out"]])
    (tmp_path / "results").rename(tmp_path / "moved")
    found = read_provenance(tmp_path / "moved" / "out.made_by.json")
    assert found.made_from == found.counts_as == made_from and found.kept == ()
    assert found.made_from.inputs["split"].file == "split.json"
    assert found.outputs == {"out.json": checksum(tmp_path / "moved/out.json")}


def test_what_is_kept_counts_as_made_under_the_new_basis_and_the_record_still_tells_what_made_it(files):
    record = files["out"].with_name("evaluation.json")
    made_from = basis({"size": 6}, CODE, {"split": files["split"]}, record)
    write_record(files["out"].with_name("plain.json"), made_from, [files["out"]])
    section = json.loads(files["out"].with_name("plain.json").read_text())
    write_checked(record, {"values": [1], "made_by": {**section, "seconds": 3.5, "machine": {"device": "cpu"}}})
    before = read_provenance(record)
    assert (before.seconds, before.device) == (3.5, "cpu")
    new = Basis({"size": 7}, {**CODE, "model.training.loop": "c3"}, made_from.inputs)
    decision = Kept(new, "2030-01-01T00:00:00+00:00", "same results", ("model.training.loop changed",))
    write_kept(record, type(before)(before.made_from, before.outputs, (decision,)))
    after = read_provenance(record)
    assert after.made_from == made_from and after.counts_as == new and after.kept == (decision,)
    assert json.loads(record.read_text())["values"] == [1] and after.seconds == 3.5
    (kept,) = json.loads(record.read_text())["made_by"]["kept"]
    assert kept.keys() == {"from", "to", "date", "reason"} and kept["reason"] == "same results"


def test_a_record_that_was_edited_says_nothing(files):
    record = record_beside(files["out"])
    write_record(record, basis({"size": 6}, CODE, {}, record), [files["out"]])
    record.write_text(record.read_text().replace('"size": 6', '"size": 7'))
    assert read_provenance(record) is None


@pytest.mark.parametrize("text", [None, "", "{", "[]", "{}", '{"spec": 1, "modules": 2, "inputs": 3, "outputs": 4}'])
def test_a_record_that_is_missing_or_damaged_says_nothing(tmp_path, text):
    record = tmp_path / "train.json"
    if text is not None:
        record.write_text(text)
    assert read_provenance(record) is None
