"""Golden groups that no test covers yet.

A row is a strict expected failure: whoever adds ``test_<group>.py`` removes the row in the same commit, else
``test_index.py`` fails. A group of the index that has neither a row here nor a test file fails as well.
"""

PENDING: dict[str, str] = {
    "g_mbs": "MBS is not written yet",
}
