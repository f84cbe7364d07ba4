"""What later steps do to a class, and what earlier ones keep it from reaching.

Backward transfer after step T (Lopez-Paz & Ranzato, GEM, NeurIPS 2017), for a class learnt in step t_c < T:

    B_c = value_c(T) − value_c(t_c)

Negative values are losses. Forgetting compares with the *best* earlier value, backward transfer with the first one.

Intransigence (Chaudhry et al., RWalk, ECCV 2018) of a class learnt in step t_c ≥ 1:

    I_c = value*_c − value_c(t_c)

Positive values say that a class is learnt less well than it could be. The reference value* there is a network trained on
everything up to t_c; here it is ``joint``, which was trained on everything up to T.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Values = Mapping[str, float | None]


def backward_transfer(steps: Sequence[Values], learnt_in: Mapping[str, int]) -> dict[str, float]:
    """Backward transfer of every class learnt before the last step.

    Args:
        steps: class key → value, one mapping per step.
        learnt_in: class key → step in which it was learnt.

    Returns:
        Class key → points; classes without a value after their own step or the last one are left out.
    """
    last = len(steps) - 1
    found = {}
    for key, step in learnt_in.items():
        before, after = (steps[step].get(key), steps[last].get(key)) if step < last else (None, None)
        if before is not None and after is not None:
            found[key] = after - before
    return found


def intransigence(steps: Sequence[Values], learnt_in: Mapping[str, int], reference: Values) -> dict[str, float]:
    """Intransigence of every class learnt after the base step.

    Args:
        steps, learnt_in: as for :func:`backward_transfer`.
        reference: class key → value of the upper bound.

    Returns:
        Class key → points; classes without a value are left out.
    """
    found = {}
    for key, step in learnt_in.items():
        best, reached = (reference.get(key), steps[step].get(key)) if step > 0 else (None, None)
        if best is not None and reached is not None:
            found[key] = best - reached
    return found
