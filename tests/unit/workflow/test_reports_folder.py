"""Two configurations in one results folder: each has its own tables and figures."""

from __future__ import annotations

from pathlib import Path

from model.workflow.reports_folder import OTHERS, Owner, read_owner, reports_of, take_over

ONE = Owner(("/project/one.yaml",), "content of one")
TWO = Owner(("/project/two.yaml",), "content of two")


def write(results: Path, text: str, *more: str) -> None:
    """Tables and figures of a run."""
    for name in ("tables/metrics.csv", "figures/toy/curves.svg", *more):
        (results / name).parent.mkdir(parents=True, exist_ok=True)
        (results / name).write_text(text)


def files(folder: Path) -> dict[str, str]:
    return {str(f.relative_to(folder)): f.read_text() for f in sorted(folder.rglob("*")) if f.is_file()}


def test_another_configuration_finds_room_and_nothing_of_the_first_is_lost(tmp_path: Path):
    assert take_over(ONE, tmp_path) is None
    write(tmp_path, "one", "tables/my-notes.md")
    told = take_over(TWO, tmp_path)
    aside = tmp_path / OTHERS / ONE.name
    assert str(aside) in told and "one.yaml" in told
    assert list(files(aside).values()).count("one") == 3
    assert not (tmp_path / "tables").exists() and not (tmp_path / "figures").exists()
    write(tmp_path, "two")
    assert (reports_of(ONE, tmp_path), reports_of(TWO, tmp_path)) == (aside, tmp_path)

    assert str(tmp_path / OTHERS / TWO.name) in take_over(ONE, tmp_path)
    assert files(tmp_path / "tables") == {"metrics.csv": "one", "my-notes.md": "one"}
    assert list(files(tmp_path / OTHERS).values()).count("two") == 2 and not aside.exists()


def test_the_same_configuration_edited_moved_or_begun_again_keeps_its_place(tmp_path: Path):
    take_over(ONE, tmp_path)
    write(tmp_path, "one")
    for owner in (Owner(ONE.files, "edited"), Owner(("/moved/one.yaml",), "edited"), ONE, ONE):
        before = files(tmp_path / "tables")
        if owner == ONE:
            take_over(Owner(ONE.files, "edited"), tmp_path)
        assert take_over(owner, tmp_path) is None
        assert files(tmp_path / "tables") == before and read_owner(tmp_path) == owner


def test_reports_that_lie_aside_are_known_by_content_after_a_move(tmp_path: Path):
    take_over(ONE, tmp_path)
    write(tmp_path, "one")
    take_over(TWO, tmp_path)
    write(tmp_path, "two")
    moved = Owner(("/elsewhere/one.yaml",), ONE.content)
    assert reports_of(moved, tmp_path) == tmp_path / OTHERS / ONE.name
    take_over(moved, tmp_path)
    assert set(files(tmp_path / "tables").values()) == {"one"}


def test_a_folder_that_two_configurations_could_call_their_own_is_not_mixed_up(tmp_path: Path):
    take_over(ONE, tmp_path)
    write(tmp_path, "one")
    take_over(TWO, tmp_path)
    write(tmp_path, "two")
    # The first lies aside with its old content, now runs with another, and a third says what the first once said.
    take_over(Owner(ONE.files, "edited"), tmp_path)
    write(tmp_path, "one, edited")
    take_over(Owner(("/project/three.yaml",), ONE.content), tmp_path)
    assert not (tmp_path / "tables").exists()


def test_reports_of_nobody_in_particular_belong_to_whoever_runs(tmp_path: Path):
    write(tmp_path, "before this was recorded")
    assert take_over(TWO, tmp_path) is None
    assert files(tmp_path / "tables") == {"metrics.csv": "before this was recorded"}


def test_configurations_of_one_name_are_told_apart():
    assert Owner(("/a/config.yaml",), "").name != Owner(("/b/config.yaml",), "").name
    assert Owner(("/a/config.yaml",), "").name.startswith("config-")
