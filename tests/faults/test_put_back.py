"""Each fault that this project once had is put back, and the tests that are to find it do."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.places import REPOSITORY
from support.put_back import Fault, faults

from imgsyncfs.mount.mountpoint import mount_entries

pytestmark = [pytest.mark.slow, pytest.mark.mount, pytest.mark.timeout(400)]

RUN_SECONDS = 300.0

TEST_SECONDS = 60
"""A test that hangs fails after as long, and has found the fault."""

FAILED = re.compile(r"\b1 failed\b")


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder for the tests that fail, with a path short enough for sockets. What they leave mounted is unmounted."""
    folder = Path(tempfile.mkdtemp(prefix="put-"))
    folder.chmod(0o711)  # PostgreSQL, as a user of its own, passes through
    yield folder
    for entry in reversed(mount_entries()):
        if entry.mountpoint.is_relative_to(folder):
            subprocess.run(["umount", "--lazy", entry.mountpoint], check=True)
    shutil.rmtree(folder)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of this one."""
    copy = tmp_path / "checkout"
    leave_out = shutil.ignore_patterns("__pycache__", "faults")
    for name in ("imgsyncfs", "scripts", "tests"):
        shutil.copytree(REPOSITORY / name, copy / name, ignore=leave_out, symlinks=True)
    shutil.copy(REPOSITORY / "pyproject.toml", copy)
    shutil.copy(REPOSITORY / "README.md", copy)
    return copy


@pytest.mark.parametrize("fault", faults(), ids=lambda fault: fault.name)
def test_a_fault_that_is_put_back_is_found(checkout: Path, temporary: Path, fault: Fault) -> None:
    fault.put_back(checkout)
    tests = [str(checkout / "tests" / test) for test in fault.tests]
    run = subprocess.Popen(
        [sys.executable, "-m", "pytest", "--exitfirst", "--quiet", "--tb=line", f"--timeout={TEST_SECONDS}", *tests],
        cwd=checkout,
        # The copy's package is the one that all processes import.
        env={**os.environ, "PYTHONPATH": str(checkout), "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = run.communicate(timeout=RUN_SECONDS)
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
            run.communicate()
    assert run.returncode == 1, f"not found: {fault.name}\n{said}"
    assert FAILED.search(said), said
