"""``tests/faults.toml`` is about this code and these tests."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from support.places import REPOSITORY, TESTS
from support.put_back import Fault, faults


@pytest.mark.parametrize("fault", faults(), ids=lambda fault: fault.name)
def test_a_fault_can_be_put_back_and_its_tests_are_there(tmp_path: Path, fault: Fault) -> None:
    files = {change.file for change in fault.changes}
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / file, tmp_path / file)
    fault.put_back(tmp_path)
    for file in files:
        compile((tmp_path / file).read_text(), file, "exec")
    assert files
    assert fault.tests
    for test in fault.tests:
        file, _, name = test.partition("::")
        assert not name or re.search(rf"^def {name}\(", (TESTS / file).read_text(), re.MULTILINE)
