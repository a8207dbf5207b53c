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
    copy = tmp_path / fault.file
    copy.parent.mkdir(parents=True)
    shutil.copy(REPOSITORY / fault.file, copy)
    fault.put_back(tmp_path)
    compile(copy.read_text(), fault.file, "exec")
    assert fault.tests
    for test in fault.tests:
        file, _, name = test.partition("::")
        assert not name or re.search(rf"^def {name}\(", (TESTS / file).read_text(), re.MULTILINE)
