"""Formulas of docstrings become MathML; nothing else changes."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "workflow_scripts"))

from docstring_formulas import with_mathml


def test_a_block_formula_over_two_lines_is_one_formula():
    text = "Sum.\n\n    .. math:: a = b,\\quad\n              c = d\n\n    Args:\n        x: (N,).\n"
    changed = with_mathml(text)
    assert ".. math" not in changed
    assert changed.count("<math") == 1 and 'display="block"' in changed
    assert changed.startswith("Sum.\n\n    <math") and changed.endswith("</math>\n\n    Args:\n        x: (N,).\n")


def test_formulas_within_a_sentence_and_other_roles():
    changed = with_mathml("where :math:`z_y` is what :func:`~model.losses.boxes.corners` gives")
    assert changed.startswith("where <math") and 'display="inline"' in changed
    assert changed.endswith("</math> is what `model.losses.boxes.corners` gives")


def test_text_without_formulas_stays():
    text = "Images (B, 3, H, W).\n\nRaises:\n    ValueError: never.\n"
    assert with_mathml(text) == text
