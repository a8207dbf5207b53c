"""The memory with which `publish` and `index` go on where they stopped."""

from __future__ import annotations

import dataclasses
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import diskcache
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.examples import examples

from imgsyncfs.stores.contract import BlobInfo
from imgsyncfs.tools.fingerprints import blob_fingerprint, file_fingerprint
from imgsyncfs.tools.publish.journal import UNSAVED_FINDINGS, Journal

FINDINGS = {"md5": "0" * 32, "height": 1080, "width": 1920, "fault": None, "name": "ü"}

JSON_MAPPINGS = st.dictionaries(
    st.text(),
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=5,
    ),
)  # fmt: skip


class Trap:
    """Runs a program when it is unpickled."""

    def __init__(self, sign: Path) -> None:
        self.sign = sign

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.sign}",)


def database(folder: Path) -> Path:
    return folder / "cache.db"


def test_what_was_put_is_there_at_once_and_the_next_time(tmp_path: Path) -> None:
    with Journal(tmp_path / "new" / "journal") as journal:
        assert journal.get("a") is None
        journal.put("a", FINDINGS)
        assert journal.get("a") == FINDINGS
    with Journal(tmp_path / "new" / "journal") as journal:
        assert journal.get("a") == FINDINGS
        assert journal.get("b") is None


@settings(deadline=None, max_examples=examples(20), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(findings=JSON_MAPPINGS)
def test_any_mapping_that_json_can_say_comes_back(tmp_path: Path, findings: dict[str, Any]) -> None:
    with Journal(tmp_path / "journal") as journal:
        journal.put("a", findings)
    with Journal(tmp_path / "journal") as journal:
        assert journal.get("a") == findings


def test_the_newest_findings_count(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.put("a", {"md5": "old"})
    with Journal(tmp_path) as journal:
        journal.put("a", {"md5": "new"})
        assert journal.get("a") == {"md5": "new"}
    with Journal(tmp_path) as journal:
        assert journal.get("a") == {"md5": "new"}


def test_a_process_that_is_killed_loses_little(tmp_path: Path) -> None:
    program = f"""
import os, pathlib, sys
from imgsyncfs.tools.publish.journal import Journal
journal = Journal(pathlib.Path(sys.argv[1]))
for number in range({UNSAVED_FINDINGS + 10}):
    journal.put(str(number), {{"number": number}})
os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", program, tmp_path], check=False, timeout=60).returncode == 9

    with Journal(tmp_path) as journal:
        known = [journal.get(str(number)) for number in range(UNSAVED_FINDINGS)]
    assert known == [{"number": number} for number in range(UNSAVED_FINDINGS)]


def test_findings_are_saved_after_a_while_however_few_they_are(tmp_path: Path) -> None:
    with Journal(tmp_path, unsaved_seconds=0.0) as journal:
        journal.put("a", FINDINGS)
        with Journal(tmp_path) as other:
            assert other.get("a") == FINDINGS


def test_several_threads_may_use_one_journal(tmp_path: Path) -> None:
    def there_and_back(number: int) -> bool:
        journal.put(str(number), {"number": number})
        return journal.get(str(number)) == {"number": number}

    with Journal(tmp_path) as journal, ThreadPoolExecutor(8) as threads:
        assert all(threads.map(there_and_back, range(2_000)))
    with Journal(tmp_path) as journal, ThreadPoolExecutor(8) as threads:
        assert list(threads.map(journal.get, map(str, range(2_000)))) == [{"number": n} for n in range(2_000)]


def overwrite_all(file: Path) -> None:
    file.write_bytes(b"no database at all " * 1000)


def overwrite_pages(file: Path) -> None:
    content = bytearray(file.read_bytes())
    for start in range(4096, len(content), 4096):
        content[start : start + 2048] = b"\xa5" * 2048
    file.write_bytes(content)


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def other_table(file: Path) -> None:
    file.unlink()
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE Cache (something INTEGER)")
    connection.close()


@pytest.mark.parametrize("damage", [overwrite_all, overwrite_pages, cut_short, other_table])
def test_a_damaged_journal_is_begun_anew_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None]
) -> None:
    (tmp_path / "something else").write_text("stays")
    with Journal(tmp_path) as journal:
        for number in range(500):
            journal.put(str(number), FINDINGS)
    damage(database(tmp_path))

    with Journal(tmp_path) as journal:
        for number in range(500):
            assert journal.get(str(number)) in (None, FINDINGS)
        journal.put("new", FINDINGS)

    with Journal(tmp_path) as journal:
        assert journal.get("new") == FINDINGS
    assert f"The journal {tmp_path} is damaged" in caplog.text
    assert (tmp_path / "something else").read_text() == "stays"


@pytest.mark.parametrize("content", [b"{broken", b"[1]", b'"text"', b"\xff"])
def test_an_entry_that_says_nothing_is_as_if_it_were_not_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    with diskcache.Cache(tmp_path) as cache:
        cache.set("a", content)

    with Journal(tmp_path) as journal:
        assert journal.get("a") is None
        journal.put("a", FINDINGS)
        assert journal.get("a") == FINDINGS
    assert "damaged" in caplog.text


def test_a_pickle_in_a_journal_is_never_opened(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sign = tmp_path / "sign"
    with diskcache.Cache(tmp_path / "journal") as cache:
        cache.set("a", Trap(sign))

    with Journal(tmp_path / "journal") as journal:
        assert journal.get("a") is None
    assert not sign.exists()
    assert "pickle" in caplog.text


def test_a_folder_that_cannot_be_used_costs_the_memory_and_no_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")

    with Journal(tmp_path / "file") as journal:
        for number in range(UNSAVED_FINDINGS + 1):
            journal.put(str(number), FINDINGS)
        assert journal.get("0") is None
    assert "Going on without the journal" in caplog.text


def test_a_full_disk_costs_the_memory_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with Journal(tmp_path) as journal:
        journal.put("old", FINDINGS)

    def disk_full(*_arguments: Any, **_options: Any) -> NoReturn:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patched, Journal(tmp_path) as journal:
        patched.setattr(diskcache.Cache, "set", disk_full)
        for number in range(UNSAVED_FINDINGS + 1):
            journal.put(str(number), FINDINGS)

    assert caplog.text.count("Going on without the journal") == 1
    with Journal(tmp_path) as journal:
        assert journal.get("old") == FINDINGS


def test_a_journal_keeps_to_its_size(tmp_path: Path) -> None:
    most_bytes = 200_000
    with Journal(tmp_path, most_bytes=most_bytes) as journal:
        for number in range(4_000):
            journal.put(str(number), {"text": "x" * 500})
        assert journal.get("3999") is not None
        assert journal.get("0") is None

    assert database(tmp_path).stat().st_size < 3 * most_bytes


def test_a_file_has_one_fingerprint_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / os.fsdecode(b"\xff.jpg")
    file.write_bytes(b"content")
    os.utime(file, ns=(1, 1_000_000_000))
    first = file_fingerprint(file, file.stat())
    monkeypatch.chdir(tmp_path)
    assert file_fingerprint(Path(file.name), file.stat()) == first

    os.utime(file, ns=(1, 1_000_000_001))
    touched = file_fingerprint(file, file.stat())
    file.write_bytes(b"content!")
    os.utime(file, ns=(1, 1_000_000_000))
    longer = file_fingerprint(file, file.stat())
    moved = file_fingerprint(file.rename(tmp_path / "y"), (tmp_path / "y").stat())

    assert len({first, touched, longer, moved}) == 4


def test_a_blob_has_one_fingerprint_until_it_changes() -> None:
    url = "azure://account/container"
    info = BlobInfo("a/b", 10, "", "etag", 1)
    others = [
        (url + "2", info),
        (url, dataclasses.replace(info, blob="a/c")),
        (url, dataclasses.replace(info, byte_count=11)),
        (url, dataclasses.replace(info, etag="other")),
    ]

    assert blob_fingerprint(url, info) == blob_fingerprint(url, dataclasses.replace(info, modified_at=2))
    assert len({blob_fingerprint(url, info), *(blob_fingerprint(*other) for other in others)}) == 5
