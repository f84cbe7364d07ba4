"""Nothing is written into a folder of somebody else, and nothing is removed that a record does not list."""

from pathlib import Path

import pytest

from model.common.own_folders import MARKER, ForeignFolderError, check_claimable, claim, refuse_overlap, remove_listed

WHAT = "a prepared dataset"


def test_a_folder_with_files_is_claimed_only_if_segue_made_it(tmp_path: Path) -> None:
    claim(tmp_path / "new", WHAT)
    (tmp_path / "new" / "more").write_text("")
    claim(tmp_path / "new", WHAT)
    (tmp_path / "empty").mkdir()
    claim(tmp_path / "empty", WHAT)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "photo.jpg").write_text("")
    with pytest.raises(ForeignFolderError, match=r"foreign already exists and was not made by Segue"):
        claim(foreign, WHAT)
    assert [file.name for file in foreign.iterdir()] == ["photo.jpg"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"made_by": "me"}', '{"made_by": "segue", "holds": "results"}'])
def test_a_marker_is_read_and_not_only_looked_for(tmp_path: Path, content: str) -> None:
    (tmp_path / MARKER).write_text(content)
    with pytest.raises(ForeignFolderError):
        check_claimable(tmp_path, WHAT)


def test_a_file_in_the_place_of_a_folder_is_nobodys_prepared_data(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("notes")
    with pytest.raises(ForeignFolderError):
        claim(tmp_path / "data", WHAT)
    assert (tmp_path / "data").read_text() == "notes"


def test_only_listed_files_inside_the_folder_are_removed(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for folder in (ours / "maps", theirs):
        folder.mkdir(parents=True)
        (folder / "a.png").write_text("")
        (folder / "b.png").write_text("")
    (ours / "linked").symlink_to(theirs)
    remove_listed(
        ours, ["maps/a.png", "../theirs/a.png", str(theirs / "b.png"), "linked/a.png", "maps", "gone", "", "."]
    )
    assert not (ours / "maps/a.png").exists() and (ours / "maps/b.png").exists()
    assert sorted(file.name for file in theirs.iterdir()) == ["a.png", "b.png"]


def test_overlap_is_seen_in_both_directions_and_through_links(tmp_path: Path) -> None:
    photos, work = tmp_path / "work/data/photos", tmp_path / "work"
    photos.mkdir(parents=True)
    (tmp_path / "link").symlink_to(photos)
    for read, written in ((photos, work), (work, photos), (photos, photos), (tmp_path / "link", work)):
        with pytest.raises(ForeignFolderError, match="keep the two apart"):
            refuse_overlap(read, written, "root of dataset 'photos'")
    refuse_overlap(tmp_path / "other", work, "root")
    refuse_overlap(tmp_path / "work-2", work, "root")
