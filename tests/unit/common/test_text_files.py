from pathlib import Path

import pytest

from model.common.text_files import TextFileError, read_lines, read_text


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_marks_line_ends_and_empty_lines_of_editors_do_not_matter(tmp_path: Path, mark: bytes, end: bytes) -> None:
    (tmp_path / "list.txt").write_bytes(mark + end.join([b"one two", b"", "  \u00e9t\u00e9 ".encode(), b""]))
    assert read_lines(tmp_path / "list.txt") == ["one two", "été"]


@pytest.mark.parametrize(
    ("content", "place"),
    [("ok\ncafé".encode("latin-1"), "line 2, byte 0xe9"), ("list".encode("utf-16"), "line 1, byte 0xff")],
)
def test_other_encodings_are_named_with_the_place(tmp_path: Path, content: bytes, place: str) -> None:
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(TextFileError, match=rf"list\.txt is not UTF-8 text \({place}\): save it as UTF-8"):
        read_text(tmp_path / "list.txt")
