"""How many examples property tests try."""

from __future__ import annotations

from hypothesis import settings

USUAL = 100


def examples(count: int) -> int:
    """How many examples a test tries that has a number of its own; a profile with few has as few here.

    Args:
        count: on the tests' own Python.
    """
    most = settings().max_examples
    return count if most >= USUAL else min(count, most)
