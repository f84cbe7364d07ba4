"""Files of torch.save that are damaged are never read as if they were whole."""

import io
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.common.torch_files import TorchFileError, read_torch

CONTENT = {"weight": torch.arange(200.0), "classes": [1, 2], "name": "x"}


def saved(**options: bool) -> bytes:
    stream = io.BytesIO()
    torch.save(CONTENT, stream, **options)
    return stream.getvalue()


WHOLE = saved()


def same(content: object) -> bool:
    return (
        isinstance(content, dict)
        and content.keys() == CONTENT.keys()
        and torch.equal(content["weight"], CONTENT["weight"])
        and [content["classes"], content["name"]] == [[1, 2], "x"]
    )


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, len(WHOLE) - 1), bit=st.integers(0, 7))
def test_a_flipped_bit_is_noticed_or_harmless(tmp_path: Path, place: int, bit: int) -> None:
    changed = bytearray(WHOLE)
    changed[place] ^= 1 << bit
    (tmp_path / "a.pt").write_bytes(changed)
    try:
        content = read_torch(tmp_path / "a.pt", old_format=False)
    except TorchFileError as error:
        assert str(error) and "\n" not in str(error)
    else:
        assert same(content)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(length=st.integers(0, len(WHOLE) - 1))
def test_a_shortened_file_is_noticed(tmp_path: Path, length: int) -> None:
    (tmp_path / "a.pt").write_bytes(WHOLE[:length])
    with pytest.raises(TorchFileError):
        read_torch(tmp_path / "a.pt", old_format=False)


def test_the_old_format_is_read_where_it_is_admitted(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(saved(_use_new_zipfile_serialization=False))
    assert same(read_torch(tmp_path / "a.pt"))
    with pytest.raises(TorchFileError, match="was not written by torch"):
        read_torch(tmp_path / "a.pt", old_format=False)
    with pytest.raises(FileNotFoundError):
        read_torch(tmp_path / "nothing.pt")
