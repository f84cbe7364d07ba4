"""What is said about a name that does not exist."""

import pytest

from model.common.names import RENAMED, hint, unknown_name


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("mbi", ["mib", "plop"], "did you mean 'mib'?"),
        ("MiB", ["mib", "plop"], "did you mean 'mib'?"),
        ("lwf", ["LwF"], "did you mean 'LwF'?"),
        ("xyzzy", ["plop", "mib"], "known: mib, plop"),
        ("xyzzy", [], "known: none"),
    ],
)
def test_the_nearest_name_or_all_of_them(name, known, expected):
    assert hint(name, known) == expected
    assert unknown_name("method", name, known) == f"unknown method '{name}'; {expected}"


@pytest.mark.parametrize("former", RENAMED)
def test_a_former_name_leads_to_the_present_one_where_there_is_such_a_thing(former):
    assert hint(former, [RENAMED[former], former + "s"]).startswith(f"it is called '{RENAMED[former]}' now")
    assert RENAMED[former] not in hint(former, ["seed"])
