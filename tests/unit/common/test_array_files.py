"""Damaged files of arrays are told apart from whole ones, whatever numpy makes of them."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.common.array_files import ArrayFileError, read_array, read_arrays


def saved(save) -> bytes:
    stream = io.BytesIO()
    save(stream)
    return stream.getvalue()


WHOLE = saved(lambda stream: np.savez_compressed(stream, a=np.arange(300), b=np.array(["x", "y"])))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, len(WHOLE) - 1), bit=st.integers(0, 7))
def test_a_flipped_bit_is_noticed_or_harmless(tmp_path: Path, place: int, bit: int) -> None:
    changed = bytearray(WHOLE)
    changed[place] ^= 1 << bit
    (tmp_path / "a.npz").write_bytes(changed)
    try:
        arrays = read_arrays(tmp_path / "a.npz", ("a", "b"))
    except ArrayFileError as error:
        assert str(error) and "\n" not in str(error)
    else:
        assert (arrays["a"] == np.arange(300)).all() and arrays["b"].tolist() == ["x", "y"]


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(WHOLE)
    with pytest.raises(ArrayFileError, match="no entry 'c'"):
        read_arrays(tmp_path / "a.npz", ("a", "c"))
    with pytest.raises(FileNotFoundError):
        read_arrays(tmp_path / "nothing.npz")


def test_one_array_is_not_several(tmp_path: Path) -> None:
    (tmp_path / "several.npy").write_bytes(WHOLE)
    (tmp_path / "one.npy").write_bytes(saved(lambda stream: np.save(stream, np.arange(3))))
    with pytest.raises(ArrayFileError, match="several arrays"):
        read_array(tmp_path / "several.npy")
    assert read_array(tmp_path / "one.npy").tolist() == [0, 1, 2]
    (tmp_path / "one.npy").write_bytes(b"")
    with pytest.raises(ArrayFileError):
        read_array(tmp_path / "one.npy")
