"""Large files with one MD5: what is found about a whole file holds for each of its extents."""

from __future__ import annotations

import hashlib
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from imgsyncfs.blob_layout import EXTENT_BYTES, cut_into_extents, extent_digest
from imgsyncfs.cache import CacheWriter, prepare_cache
from imgsyncfs.errors import BlobChanged
from imgsyncfs.fetching.extent import Extent
from imgsyncfs.fetching.whole_checks import AGAIN_SECONDS, READ_FIRST_BYTES, WholeChecks
from imgsyncfs.stores.local import LocalStore

CONTENT = random.Random(3).randbytes(2 * EXTENT_BYTES + 1000)
MD5 = hashlib.md5(CONTENT).hexdigest()
EXTENTS = [bytes(extent) for extent in cut_into_extents(CONTENT)]
DIGESTS = [extent_digest(extent).hex() for extent in EXTENTS]


def extent_of(number: int, *, md5: str = MD5, byte_count: int = len(CONTENT)) -> Extent:
    start = number * EXTENT_BYTES
    length = min(EXTENT_BYTES, byte_count - start)
    return Extent("azure://a/c", "blob", start, length, md5, whole=(byte_count, md5))


class Blob(LocalStore):
    """A store with one blob that says what is read of it."""

    def __init__(self, *, has_range_digests: bool) -> None:
        super().__init__("file:///never/looked/at")
        self._has_range_digests = has_range_digests
        self.content = CONTENT
        self.reads: list[int] = []
        self._lock = threading.Lock()

    @property
    def has_range_digests(self) -> bool:
        return self._has_range_digests

    def read_checked(self, blob: str, buffer: memoryview, offset: int = 0, *, etag: str = "") -> tuple[int, bool]:
        assert (blob, etag) == ("blob", "")
        with self._lock:
            self.reads.append(offset)
        part = self.content[offset : offset + len(buffer)]
        buffer[: len(part)] = part
        return len(part), self.has_range_digests


class Place:
    """A cache, two stores, and a clock that stands still."""

    def __init__(self, folder: Path) -> None:
        prepare_cache(folder)
        self.cache = CacheWriter(folder, size_limit=1 << 30)
        self.now = 1e9
        self.checks = self.another_process()
        self.azure = Blob(has_range_digests=True)
        self.disk = Blob(has_range_digests=False)

    def another_process(self) -> WholeChecks:
        return WholeChecks(self.cache, timeout=10.0, clock=lambda: self.now)

    def keep(self, *numbers: int, content: bytes | None = None) -> None:
        for number in numbers:
            self.cache.put(extent_of(number).key, content or EXTENTS[number])


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "extents")


def test_nothing_is_known_of_a_file_before_all_of_it_is_here(place: Place) -> None:
    place.keep(0, 2)
    place.checks.check(extent_of(2))
    assert place.checks.digest(extent_of(1), place.azure) == ""


def test_a_file_that_is_right_as_a_whole_gives_the_digest_of_each_extent(place: Place) -> None:
    place.keep(2, 0, 1)
    place.checks.check(extent_of(1))
    assert [place.checks.digest(extent_of(number), place.azure) for number in range(3)] == DIGESTS
    assert place.azure.reads == []


def test_what_was_found_outlives_the_process_and_the_extents(place: Place) -> None:
    place.keep(0, 1, 2)
    place.checks.check(extent_of(0))
    place.cache.remove(extent_of(0).keys_of_whole())
    assert place.another_process().digest(extent_of(2), place.azure) == DIGESTS[2]


def test_a_file_that_is_wrong_as_a_whole_is_told_and_nothing_of_it_stays(place: Place) -> None:
    place.keep(0, 2)
    place.keep(1, content=b"x" * EXTENT_BYTES)
    with pytest.raises(BlobChanged, match="its MD5 differs"):
        place.checks.check(extent_of(1))
    assert [place.cache.get(extent_of(number).key) for number in range(3)] == [None] * 3


def test_after_a_file_was_found_to_be_wrong_none_of_its_extents_is_handed_on(place: Place) -> None:
    place.keep(0, 1, 2)
    place.cache.remove([extent_of(1).key])
    place.keep(1, content=b"x" * EXTENT_BYTES)
    with pytest.raises(BlobChanged):
        place.checks.check(extent_of(1))
    for checks in (place.checks, place.another_process()):
        with pytest.raises(BlobChanged):
            checks.digest(extent_of(0), place.azure)
    assert place.azure.reads == []


def test_a_file_that_was_wrong_is_read_whole_again_in_a_while_and_then_right(place: Place) -> None:
    place.disk.content = b"x" + CONTENT[1:]
    with pytest.raises(BlobChanged):
        place.checks.digest(extent_of(0), place.disk)
    place.disk.content = CONTENT
    place.now += AGAIN_SECONDS + 1
    assert place.checks.digest(extent_of(1), place.azure) == DIGESTS[1]


def test_where_the_store_vouches_for_nothing_a_file_is_read_whole_before_its_first_extent(place: Place) -> None:
    assert place.checks.digest(extent_of(2), place.disk) == DIGESTS[2]
    assert place.checks.digest(extent_of(0), place.disk) == DIGESTS[0]
    assert place.disk.reads == [0, EXTENT_BYTES, 2 * EXTENT_BYTES]


def test_a_very_large_file_is_not_read_whole_first(place: Place) -> None:
    assert place.checks.digest(extent_of(0, byte_count=READ_FIRST_BYTES + 1), place.disk) == ""
    assert place.disk.reads == []


def test_readers_who_come_at_once_have_a_file_read_once(place: Place) -> None:
    barrier = threading.Barrier(8)

    def ask(number: int) -> str:
        barrier.wait(10.0)
        return place.checks.digest(extent_of(number % 3), place.disk)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == [DIGESTS[number % 3] for number in range(8)]
    assert place.disk.reads == [0, EXTENT_BYTES, 2 * EXTENT_BYTES]
