"""What commands and processes import before anything is asked of them: a mount is to be usable within a second."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"numpy", "PIL", "lxml", "azure", "requests", "pyodbc", "rich", "http.client", "asyncio"}
DATABASES = {"sqlite3", "imgsyncfs.catalog.catalog"}


@pytest.mark.parametrize(
    ("module", "not_wanted"),
    [
        ("imgsyncfs.cli", HEAVY | DATABASES),
        ("imgsyncfs.cli.mount_commands", HEAVY | DATABASES | {"imgsyncfs.stores.opening"}),
        ("imgsyncfs.mount.process", HEAVY | {"imgsyncfs.catalog", "imgsyncfs.stores.opening"}),
        ("imgsyncfs.mount.daemon", HEAVY | {"imgsyncfs.catalog.catalog", "imgsyncfs.stores.opening"}),
        ("imgsyncfs.catalog.worker", HEAVY | {"imgsyncfs.cache", "imgsyncfs.stores.opening", "sqlite3"}),
        ("imgsyncfs.fetching.worker", HEAVY),
    ],
)
def test_what_a_mount_starts_with_imports_nothing_that_takes_long(module: str, not_wanted: set[str]) -> None:
    program = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert not_wanted & set(done.stdout.split()) == set()
