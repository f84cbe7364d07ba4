"""Answers that are found once."""

import pytest

from model.common.kept_answers import kept_answer


def test_an_answer_is_found_once_for_each_question(tmp_path):
    asked = []

    def find(answer):
        asked.append(answer)
        return answer

    for _ in range(2):
        assert kept_answer(tmp_path, "one", lambda: find({"a": [1, None]})) == {"a": [1, None]}
        assert kept_answer(tmp_path, "other", lambda: find(None)) is None
    assert asked == [{"a": [1, None]}, None]


def test_the_first_answer_is_the_same_as_later_ones(tmp_path):
    assert kept_answer(tmp_path, "one", lambda: (1, (2,))) == kept_answer(tmp_path, "one", list) == [1, [2]]


def test_errors_are_not_kept(tmp_path):
    with pytest.raises(ValueError, match="no"):
        kept_answer(tmp_path, "one", lambda: int("no"))
    assert kept_answer(tmp_path, "one", lambda: 3) == 3


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"other": 1}', b"\xff"])
def test_a_damaged_file_is_replaced(tmp_path, content):
    kept_answer(tmp_path, "one", lambda: 1)
    (file,) = tmp_path.iterdir()
    file.write_bytes(content)
    assert kept_answer(tmp_path, "one", lambda: 2) == 2
    assert kept_answer(tmp_path, "one", lambda: 3) == 2


def test_a_folder_that_cannot_be_written_to_keeps_nothing(tmp_path):
    (tmp_path / "file").touch()
    assert [kept_answer(tmp_path / "file" / "folder", "one", lambda n=n: n) for n in (1, 2)] == [1, 2]
