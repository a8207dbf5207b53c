"""Where what tests use lies."""

from __future__ import annotations

import os
from pathlib import Path

SUPPORT = Path(__file__).resolve().parent
TESTS = SUPPORT.parent
REPOSITORY = TESTS.parent

SAMPLES = SUPPORT / "samples"
"""The users' own examples."""

CASES = SUPPORT / "cases"
"""Small inputs after reported files, each with something that is easily lost; its README says what."""

PICTURES = SUPPORT / "pictures"
"""What previews looked like when somebody looked at them."""


def importing_support() -> str:
    """What ``PYTHONPATH`` must be for a child process that imports this package."""
    return os.pathsep.join(filter(None, (str(TESTS), os.environ.get("PYTHONPATH"))))
