"""How many examples property tests try; each run tries others."""

from __future__ import annotations

import os

USUAL = 50

EXAMPLES = int(os.environ.get("IMGSYNCFS_EXAMPLES", str(USUAL)))
"""Of a test that has no number of its own. Where somebody is content with few, no test tries more."""


def examples(count: int) -> int:
    """How many examples a test tries that has a number of its own.

    Args:
        count: unless somebody is content with few.
    """
    return count if EXAMPLES >= USUAL else min(count, EXAMPLES)
