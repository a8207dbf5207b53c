"""Fixtures: a dataset whose images are on all three sides, under a mount that tests only read, and a small one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.mounting import Workplace, workplace_with

DATASET = "original_20260401_rgb_rbbox"
COUNT = 60
"""Images of the mounted one."""

NEVER = ("--refresh", "3600")
"""Has a mount ask the catalog only when it is told to."""


@pytest.fixture(scope="module")
def divided(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A mount of `DATASET` with `COUNT` images; the tests of a file share it."""
    workplace = workplace_with(tmp_path_factory.mktemp("divided"), DATASET, count=COUNT)
    workplace.run("split", DATASET, "60/20/20", "--group-by", r"(\d+)$")
    with workplace.mounted(*NEVER) as mountpoint:
        yield mountpoint


@pytest.fixture
def small_workplace(tmp_path: Path) -> Workplace:
    """A fresh catalog of `DATASET` with five images."""
    return workplace_with(tmp_path, DATASET, count=5)
