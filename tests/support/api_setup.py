"""What tests of the Python API share: the environment of a process that works with a catalog."""

from __future__ import annotations

import os

import pytest

from support.mounting import Workplace


def work_in(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give this process the environment that the workplace's commands have."""
    variables = workplace.variables()
    for name in os.environ.keys() - variables.keys():
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
