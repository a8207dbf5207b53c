"""Whatever a cache's database, logs and folders say: nothing outside the cache is read, written or removed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.cache_writers import content_of

from imgsyncfs.cache import CacheReader, CacheWriter, content_tag, prepare_cache
from imgsyncfs.cache.extent import Entry, OpenExtent, tagged_length
from imgsyncfs.cache.files import ExtentFiles, RefusedFile, file_and_offset, is_file_name, new_name, part_name
from imgsyncfs.cache.upkeep import IN_FLIGHT_SECONDS, CacheCheck, cache_content, clear_cache, verify_cache
from imgsyncfs.errors import CacheError
from imgsyncfs.tools.publish.journal import Journal
from imgsyncfs.workers.progress import SilentProgress

CONTENT = content_of("treasure")
TAG = content_tag(CONTENT)
BASE = f"{'0' * 31}.val"
NAME = f"3/{BASE}"
LIMIT = 16 << 20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A cache folder."""
    prepare_cache(tmp_path / "cache" / "extents")
    return tmp_path / "cache" / "extents"


@pytest.fixture
def writer(folder: Path) -> Iterator[CacheWriter]:
    """A worker's side of it."""
    with contextlib.closing(CacheWriter(folder, size_limit=LIMIT)) as opened:
        yield opened


@pytest.fixture
def treasure(tmp_path: Path) -> Path:
    """A file outside the cache, which an entry's tag would fit."""
    path = tmp_path / "elsewhere" / BASE
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    return path


@pytest.fixture(autouse=True)
def _ends() -> Iterator[None]:
    """A pipe that nobody writes to keeps its reader for ever."""
    signal.alarm(60)
    yield
    signal.alarm(0)


def set_row(folder: Path, key: object = "key", **columns: object) -> None:
    """Put a row into the table, past everything that would look at it."""
    values: dict[str, object] = {"key": key, "raw": 1, "access_time": 0.0, "tag": TAG, "size": 102_400, **columns}
    with contextlib.closing(sqlite3.connect(folder / "cache.db")) as connection, connection:
        connection.execute(
            f"INSERT INTO Cache ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})", [*values.values()]
        )


def rows(folder: Path) -> int:
    with contextlib.closing(sqlite3.connect(folder / "cache.db")) as connection:
        [(count,)] = connection.execute("SELECT count(*) FROM Cache WHERE access_time IS NOT 1").fetchall()
    return int(count)


def tag_of_key(folder: Path) -> object:
    with contextlib.closing(sqlite3.connect(folder / "cache.db")) as connection:
        row = connection.execute("SELECT tag FROM Cache WHERE key = 'key'").fetchone()
    return row and row[0]


def find(folder: Path) -> OpenExtent | None:
    with contextlib.closing(CacheReader(folder)) as reader:
        return reader.find("key")


def verify(folder: Path) -> CacheCheck:
    return verify_cache(folder, progress=SilentProgress())


def evict(folder: Path) -> None:
    """Put more than there is room for."""
    with contextlib.closing(CacheWriter(folder, size_limit=LIMIT)) as writer:
        kept = [writer.put(f"filler-{number}", content_of(f"filler-{number}")) for number in range(200)]
    # What was evicted may turn out to be no file that can be written anew.
    assert kept.count(False) <= 1


def get(folder: Path) -> None:
    with contextlib.closing(CacheWriter(folder, size_limit=LIMIT)) as writer:
        assert writer.get("key") is None


def put(folder: Path) -> None:
    with contextlib.closing(CacheWriter(folder, size_limit=LIMIT)) as writer:
        assert writer.put("key", content_of("key"))
        assert writer.get("key") == content_of("key")


def clear(folder: Path) -> None:
    clear_cache(folder, progress=SilentProgress())


def clear_one(folder: Path) -> None:
    clear_cache(folder, chosen="key".__eq__, progress=SilentProgress())


ENTRIES_GO: dict[str, Callable[[Path], CacheCheck | None]] = {
    "clear": clear,
    "clear one": clear_one,
    "verify": verify,
    "verify one": lambda folder: verify_cache(folder, chosen="key".__eq__, progress=SilentProgress()),
    "evict": evict,
    "get": get,
    "put": put,
}

ELSEWHERE = {
    "up": "../../elsewhere/{base}",
    "up, a part": "../../elsewhere/{base}@0",
    "up from a folder of the cache": "0/../../../elsewhere/{base}",
    "absolute": "{treasure}",
    "absolute, a part": "{treasure}@0",
    "through a folder that is a link": "3/{base}",
    "through a folder that is a link, a part": "3/{base}@0",
    "through an earlier version's folder that is a link": "ab/cd/{base}",
    "through one within that is a link": "ef/cd/{base}",
}


def name_elsewhere(way: str, treasure: Path) -> str:
    """What a row calls its file."""
    return ELSEWHERE[way].format(base=BASE, treasure=treasure)


def lead_elsewhere(folder: Path, treasure: Path) -> None:
    """Put links to a folder outside where the cache has folders."""
    (folder / "3").rmdir()
    (folder / "3").symlink_to(treasure.parent)
    (treasure.parent / "cd").symlink_to(".")
    (folder / "ab").symlink_to(treasure.parent)
    (folder / "ef").mkdir()
    (folder / "ef" / "cd").symlink_to(treasure.parent)


@pytest.mark.parametrize("action", ENTRIES_GO)
@pytest.mark.parametrize("way", ELSEWHERE)
def test_an_entry_that_leads_elsewhere_goes_and_nothing_else(
    folder: Path, treasure: Path, way: str, action: str
) -> None:
    set_row(folder, filename=name_elsewhere(way, treasure))
    if action not in {"put", "evict"}:
        # A sixteenth of what is put could not be kept.
        lead_elsewhere(folder, treasure)
    ENTRIES_GO[action](folder)
    assert treasure.read_bytes() == CONTENT
    assert tag_of_key(folder) == (content_tag(content_of("key")) if action == "put" else None)


@pytest.mark.parametrize("way", ELSEWHERE)
def test_an_entry_that_leads_elsewhere_is_a_damaged_one(folder: Path, treasure: Path, way: str) -> None:
    lead_elsewhere(folder, treasure)
    set_row(folder, filename=name_elsewhere(way, treasure))
    with contextlib.closing(CacheReader(folder)) as reader:
        assert reader.find("key") is None
        reader.verified.note("key")
        assert reader.find("key") is None
        assert (reader.counts().damaged, reader.counts().misses) == (2, 2)
    assert verify(folder).damaged == 1


@pytest.mark.parametrize("action", ["clear", "verify", "evict", "get", "put"])
def test_it_is_logged_with_its_key(folder: Path, action: str, caplog: pytest.LogCaptureFixture) -> None:
    set_row(folder, filename="../../treasure.val")
    ENTRIES_GO[action](folder)
    assert any("treasure.val" in record.getMessage() and "key" in record.getMessage() for record in caplog.records)


def make_link(path: Path, treasure: Path) -> None:
    path.symlink_to(treasure)


def make_socket(path: Path, _: Path) -> None:
    os.mknod(path, stat.S_IFSOCK | 0o600)


NO_FILES: dict[str, Callable[[Path, Path], object]] = {
    "link": make_link,
    "pipe": lambda path, _: os.mkfifo(path),
    "socket": make_socket,
    "folder": lambda path, _: path.mkdir(),
}


@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_no_regular_file_is_a_damaged_extent(folder: Path, treasure: Path, kind: str) -> None:
    NO_FILES[kind](folder / NAME, treasure)
    set_row(folder, filename=NAME)
    with contextlib.closing(CacheReader(folder)) as reader:
        assert reader.find("key") is None
        assert reader.counts().damaged == 1
    check = verify(folder)
    assert (check.damaged, rows(folder)) == (1, 0)
    assert treasure.read_bytes() == CONTENT


@pytest.mark.parametrize("kind", NO_FILES)
@pytest.mark.parametrize("action", ["get", "put", "evict", "clear"])
def test_a_worker_forgets_what_is_no_regular_file(folder: Path, treasure: Path, kind: str, action: str) -> None:
    NO_FILES[kind](folder / NAME, treasure)
    set_row(folder, filename=NAME)
    ENTRIES_GO[action](folder)
    assert treasure.read_bytes() == CONTENT
    assert tag_of_key(folder) == (content_tag(content_of("key")) if action == "put" else None)


def entry_of_file(name: str, *, content: bytes = CONTENT) -> Entry:
    return Entry("key", content_tag(content), name, None)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("theirs", ["", "3", NAME])
def test_a_file_of_somebody_else_is_not_read(folder: Path, theirs: str) -> None:
    (folder / NAME).write_bytes(CONTENT)
    os.chown(folder / theirs, 12345, 12345)
    with pytest.raises(RefusedFile, match="another user"):
        ExtentFiles(folder).open(entry_of_file(NAME))


def test_an_extent_of_somebody_else_is_a_damaged_one(folder: Path, writer: CacheWriter) -> None:
    if os.geteuid():
        pytest.skip("only root gives files away")
    writer.put("key", CONTENT)
    [path] = folder.rglob("*.val")
    os.chown(path, 12345, 12345)
    with contextlib.closing(CacheReader(folder)) as reader:
        assert reader.find("key") is None
        assert reader.counts().damaged == 1
    assert writer.get("key") is None
    assert rows(folder) == 0


def test_orphans_are_not_looked_for_through_links(folder: Path, treasure: Path) -> None:
    lead_elsewhere(folder, treasure)
    (folder / "5" / BASE).write_bytes(b"left by a killed process")
    (folder / "12" / "34").mkdir(parents=True)
    (folder / "12" / "34" / BASE).write_bytes(b"left by an earlier version")
    for path in (treasure, *folder.rglob("*.val")):
        os.utime(path, (time.time() - IN_FLIGHT_SECONDS,) * 2)
    assert verify(folder).orphans == 2
    assert treasure.read_bytes() == CONTENT


def test_a_link_in_place_of_a_folder_is_replaced_by_one_and_what_it_leads_to_stays(
    folder: Path, treasure: Path
) -> None:
    lead_elsewhere(folder, treasure)
    prepare_cache(folder)
    assert (folder / "3").is_dir()
    assert not (folder / "3").is_symlink()
    assert treasure.read_bytes() == CONTENT


def test_a_file_in_place_of_a_folder_keeps_the_cache_from_being_used(folder: Path) -> None:
    (folder / "3").rmdir()
    (folder / "3").write_bytes(CONTENT)
    with pytest.raises(CacheError, match=f"{folder}/3"):
        prepare_cache(folder)
    assert (folder / "3").read_bytes() == CONTENT


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
def test_a_database_that_is_a_link_is_refused_and_what_it_leads_to_is_left_alone(
    folder: Path, treasure: Path, suffix: str
) -> None:
    for path in folder.glob("cache.db*"):
        path.unlink()
    if suffix:
        (folder / "cache.db").touch()
    (folder / f"cache.db{suffix}").symlink_to(treasure)
    for use in (prepare_cache, CacheReader, verify, clear, lambda folder: cache_content(folder, str)):
        with pytest.raises(CacheError, match=f"cache.db{suffix} is a link"):
            use(folder)
    assert treasure.read_bytes() == CONTENT


def test_a_damaged_cache_is_made_anew_and_nothing_else_in_its_folder_goes(folder: Path, writer: CacheWriter) -> None:
    writer.put("key", CONTENT)
    (folder / "notes.txt").write_text("mine")
    for path in folder.glob("cache.db*"):
        path.unlink()
    (folder / "cache.db").write_bytes(b"not a database " * 1000)
    prepare_cache(folder)
    assert (folder / "notes.txt").read_text() == "mine"
    assert not list(folder.rglob("*.val"))
    put(folder)


# Values of types that no writer puts.

HUGE = 10**18

ODD_ROWS: dict[str, dict[str, object]] = {
    "the file is a number": {"filename": 5},
    "the file is bytes": {"filename": NAME.encode()},
    "the file is no text": {"filename": b"\xff", "as_text": "filename"},
    "the file's name goes on": {"filename": f"{NAME}\n"},
    "the file's name has a NUL": {"filename": f"{NAME}\0"},
    "the part is far out": {"filename": f"{NAME}@999999999999999999999"},
    "the part has more digits than Python takes": {"filename": f"{NAME}@{'9' * 5000}"},
    "the part is negative": {"filename": f"{NAME}@-1"},
    "the part is a superscript": {"filename": f"{NAME}@²"},
    "the part is in other digits": {"filename": f"{NAME}@٣"},
    "the part is nothing": {"filename": f"{NAME}@"},
    "two parts": {"filename": f"{NAME}@0@0"},
    "the tag is missing": {"filename": NAME, "tag": None},
    "the tag is bytes": {"filename": NAME, "tag": TAG.encode()},
    "the tag is a number": {"filename": NAME, "tag": 100_000},
    "the tag is no text": {"filename": NAME, "tag": b"\xff", "as_text": "tag"},
    "the tag is a superscript": {"filename": part_name(NAME, 0), "tag": "²-0"},
    "the tag is far too long": {"filename": part_name(NAME, 0), "tag": f"{HUGE}-{'0' * 32}"},
    "the tag has more digits than Python takes": {"filename": NAME, "tag": f"{'9' * 5000}-{'0' * 32}"},
    "the content is a text": {"value": "text", "tag": content_tag(b"text")},
    "the content is missing": {"tag": content_tag(b"")},
    "the content is a number": {"value": 7},
}

ODD_KEYS: dict[str, dict[str, object]] = {
    "the key is missing": {"key": None},
    "the key is bytes": {"key": b"key"},
    "the key is a number": {"key": 7},
    "the key is no text": {"key": b"\xff", "as_text": "key"},
    "the key is one of diskcache's own": {"raw": 0},
}

ODD_NUMBERS: dict[str, dict[str, object]] = {
    f"the {column} is {value!r}": {column: value, "filename": NAME}
    for column in ("size", "access_time")
    for value in (None, "text", b"bytes", -HUGE, 9e999, float(HUGE))
}


def set_odd_row(folder: Path, columns: dict[str, object]) -> None:
    (folder / NAME).write_bytes(CONTENT)
    as_text = columns.get("as_text")
    set_row(folder, **{name: value for name, value in columns.items() if name != "as_text"})
    if as_text:
        with contextlib.closing(sqlite3.connect(folder / "cache.db")) as connection, connection:
            connection.execute(f"UPDATE Cache SET {as_text} = CAST({as_text} AS TEXT)")


@pytest.mark.parametrize("action", ENTRIES_GO)
@pytest.mark.parametrize("odd", ODD_ROWS)
def test_an_entry_that_makes_no_sense_is_a_damaged_one_and_goes(folder: Path, odd: str, action: str) -> None:
    set_odd_row(folder, ODD_ROWS[odd])
    assert find(folder) is None
    assert cache_content(folder, str).groups.keys() == {"key"}
    ENTRIES_GO[action](folder)
    assert tag_of_key(folder) == (content_tag(content_of("key")) if action == "put" else None)


@pytest.mark.parametrize("action", ["clear", "verify", "evict"])
@pytest.mark.parametrize("odd", ODD_KEYS)
def test_an_entry_whose_key_makes_no_sense_is_a_damaged_one_and_goes(folder: Path, odd: str, action: str) -> None:
    set_odd_row(folder, {"filename": NAME, **ODD_KEYS[odd]})
    check = ENTRIES_GO[action](folder)
    assert check is None or check.damaged == 1
    with contextlib.closing(sqlite3.connect(folder / "cache.db")) as connection:
        assert connection.execute("SELECT 1 FROM Cache WHERE tag = ?", (TAG,)).fetchall() == []


@pytest.mark.parametrize("action", ["clear", "verify", "evict", "put"])
@pytest.mark.parametrize("odd", ODD_NUMBERS)
def test_an_entry_whose_numbers_make_no_sense_goes_and_spoils_no_count(folder: Path, odd: str, action: str) -> None:
    set_odd_row(folder, ODD_NUMBERS[odd])
    cache_content(folder, str)
    with contextlib.closing(CacheReader(folder)) as reader:
        reader.volume()
    ENTRIES_GO[action](folder)
    verify(folder)
    files = sum(-(-path.stat().st_size // 4096) * 4096 for path in folder.rglob("*.val"))
    with contextlib.closing(sqlite3.connect(folder / "cache.db")) as connection:
        [(size,)] = connection.execute("SELECT value FROM Settings WHERE key = 'size'").fetchall()
    assert size == files


@pytest.mark.parametrize(
    ("name", "value"),
    [("transact", "text"), ("_sql", 1), ("__class__", 1), ("disk_unheard_of", 1), (b"\x00", 1), ("nobody knows", 1)],
)
def test_a_cache_whose_settings_make_no_sense_is_made_anew(folder: Path, name: object, value: object) -> None:
    with contextlib.closing(sqlite3.connect(folder / "cache.db")) as connection, connection:
        connection.execute("INSERT INTO Settings VALUES (?, ?)", (name, value))
    prepare_cache(folder)
    put(folder)


@pytest.mark.parametrize("value", [None, "text", b"bytes", -1, 9e999])
def test_limits_that_make_no_sense_are_none(folder: Path, value: object) -> None:
    for name in ("size", "count", "size_limit"):
        with contextlib.closing(sqlite3.connect(folder / "cache.db")) as connection, connection:
            connection.execute("UPDATE Settings SET value = ? WHERE key = ?", (value, name))
    assert cache_content(folder, str).limits == (0, 0)
    with contextlib.closing(CacheReader(folder)) as reader:
        assert reader.volume() > 0
    clear(folder)
    put(folder)


# Names.


@given(st.text() | st.binary() | st.integers() | st.floats() | st.none())
def test_whatever_a_table_says_a_file_lies_in_the_caches_folder(name: object) -> None:
    place = file_and_offset(name)
    assert place is None or (is_file_name(place[0]) and isinstance(name, str))


@given(st.from_regex(r"\A[0-9a-f/.@val]{1,40}\Z") | st.text(alphabet="0/.@\0\n²٣-", max_size=60))
def test_a_name_that_is_taken_has_no_way_out(name: str) -> None:
    place = file_and_offset(name)
    if place is not None:
        file, offset = place
        assert Path("/cache", file).resolve().is_relative_to("/cache")
        assert ".." not in Path(file).parts
        assert offset is None or 0 <= offset < 1 << 62


@given(st.integers(0, 10**15 - 1))
def test_every_name_that_the_cache_gives_is_taken(offset: int) -> None:
    name = new_name()
    assert file_and_offset(name) == (name, None)
    assert file_and_offset(part_name(name, offset)) == (name, offset)


@given(st.binary(max_size=100))
def test_every_tag_that_the_cache_gives_says_its_length(content: bytes) -> None:
    assert tagged_length(content_tag(content)) == len(content)


@given(st.text(alphabet="0123456789-²٣abc", max_size=60) | st.integers() | st.none())
def test_whatever_is_a_tag_a_length_comes_of_it(tag: object) -> None:
    assert 0 <= tagged_length(tag) < 10**15


@pytest.mark.parametrize("name", ["", ".", "..", "/etc/passwd", "3", "3/", NAME.upper(), f"{NAME}/x", f"./{NAME}"])
def test_files_are_asked_for_by_the_caches_names_alone(folder: Path, name: str) -> None:
    with contextlib.closing(ExtentFiles(folder)) as files:
        for use in (
            lambda name: files.open(entry_of_file(name)),
            files.modified_at,
            lambda name: files.write(name, [b"x"]),
        ):
            with pytest.raises(RefusedFile):
                use(name)
        assert files.remove([name]) == 0


# What must go on.


def test_files_of_an_earlier_version_are_read_and_removed(folder: Path, writer: CacheWriter) -> None:
    for number, key in enumerate(("one", "two", "three")):
        name = f"a{number}/cd/{'5' * 28}.val"
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(CONTENT)
        set_row(folder, key, filename=name)
    assert writer.get("one") == CONTENT
    with contextlib.closing(CacheReader(folder)) as reader:
        extent = reader.find("two")
        assert extent is not None
        assert extent.read(0, 10) == CONTENT[:10]
    assert verify(folder) == CacheCheck(3, 300_000, 0, 0)
    evict(folder)
    assert not (folder / f"a0/cd/{'5' * 28}.val").exists()
    clear(folder)
    assert not list(folder.rglob("*.val"))


def test_files_are_written_and_read_in_a_folder_that_was_made_anew(folder: Path) -> None:
    with contextlib.closing(ExtentFiles(folder)) as files:
        files.make_folders()
        files.write(NAME, [b"before"])
        folder.rename(folder.with_name("moved"))
        (folder.with_name("moved") / NAME).unlink()
        (folder.with_name("moved") / "3").rmdir()
        folder.mkdir()
        files.write(NAME, [b"after"])
        extent = files.open(entry_of_file(NAME, content=b"after"))
        assert extent is not None
        assert extent.read(0, 10) == b"after"
        assert (folder / NAME).read_bytes() == b"after"


@pytest.mark.parametrize("anew", ["", "3"])
@pytest.mark.parametrize("looked_at", [NAME, f"4/{BASE}"])
def test_a_file_in_a_folder_that_was_made_anew_is_found(folder: Path, anew: str, looked_at: str) -> None:
    with contextlib.closing(ExtentFiles(folder)) as files:
        assert files.open(entry_of_file(looked_at)) is None
        shutil.rmtree(folder / anew)
        (folder / NAME).parent.mkdir(parents=True)
        (folder / NAME).write_bytes(CONTENT)
        extent = files.open(entry_of_file(NAME))
        assert extent is not None
        assert extent.read(0, len(CONTENT)) == CONTENT


def test_a_closed_cache_leaves_no_folder_open(folder: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208  # names are what is compared
    writer, reader = CacheWriter(folder, size_limit=LIMIT), CacheReader(folder)
    writer.put("key", CONTENT)
    assert reader.find("key") is not None
    for opened in (writer, reader):
        opened.close()
    assert set(os.listdir("/proc/self/fd")) == before  # noqa: PTH208  # likewise


def test_a_cache_whose_path_has_odd_characters_is_read(tmp_path: Path) -> None:
    for name in ("a?b", "a#b", "a%41b", "ü"):
        folder = tmp_path / name / "extents"
        prepare_cache(folder)
        put(folder)
        assert find(folder) is not None


def test_a_path_that_diskcache_would_take_for_another_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMGSYNCFS_TEST", "elsewhere")
    with pytest.raises(CacheError, match="variable"):
        prepare_cache(tmp_path / "$IMGSYNCFS_TEST" / "extents")
    assert not (tmp_path / "elsewhere").exists()


# The journal of publish has the same kind of table.


@pytest.mark.parametrize("file", ["../elsewhere/{base}", "{treasure}"])
def test_a_journal_reads_and_removes_no_file(tmp_path: Path, treasure: Path, file: str) -> None:
    treasure.write_bytes(b'{"md5": "theirs"}')
    folder = tmp_path / "journal"
    with Journal(folder) as journal:
        journal.put("key", {"md5": "ours"})
    with contextlib.closing(sqlite3.connect(folder / "cache.db")) as connection, connection:
        name = file.format(base=BASE, treasure=treasure)
        connection.execute("UPDATE Cache SET mode = 2, value = NULL, filename = ?", (name,))
    with Journal(folder) as journal:
        journal.put("key", {"md5": "new"})
    assert treasure.exists()
    with contextlib.closing(sqlite3.connect(folder / "cache.db")) as connection, connection:
        connection.execute("UPDATE Cache SET mode = 2, value = NULL, filename = ?", (name,))
    with Journal(folder) as journal:
        assert journal.get("key") is None
    assert treasure.exists()


def test_a_journal_whose_database_is_a_link_is_not_used(tmp_path: Path, treasure: Path) -> None:
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal" / "cache.db").symlink_to(treasure)
    with Journal(tmp_path / "journal") as journal:
        journal.put("key", {"md5": "ours"})
    assert treasure.read_bytes() == CONTENT
