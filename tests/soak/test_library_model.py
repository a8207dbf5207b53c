"""A library, without FUSE, beside plain dictionaries that say what it must show, under whatever may happen to it.

Hypothesis thinks up publishes, changes, removals, refreshes, reads, lists, evictions, damage, and stores and catalogs
that go away; what it finds is made as short as it can be. ``IMGSYNCFS_MODEL_STEPS=1000000 scripts/test soak
-k library_reads`` makes as many steps; a run says how many it made.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from support.modelled_catalog import (
    BLOB_FAULTS,
    BROKEN_ANNOTATION,
    DATASETS,
    STEMS,
    Files,
    ModelFile,
    Revision,
    annotation_content,
    image_content,
    open_modelled_catalog,
)
from support.workers_within import workers_within

from imgsyncfs.annotations.house_format import parse_annotation
from imgsyncfs.cache import CacheWriter, extents_folder
from imgsyncfs.cache.table import DATABASE_NAME
from imgsyncfs.cache.upkeep import verify_cache
from imgsyncfs.cache.verified import VERIFIED_BYTES, VerifiedExtents
from imgsyncfs.errors import (
    AnnotationError,
    BlobChanged,
    BlobMissing,
    CatalogError,
    ImgsyncfsError,
    NotInCatalog,
    StoreError,
    StoreMissing,
)
from imgsyncfs.formats.contract import ImageInfo
from imgsyncfs.formats.registry import get_format
from imgsyncfs.library.dataset_files import DatasetFiles, FileKey
from imgsyncfs.library.directory_positions import first_position
from imgsyncfs.library.library import Library
from imgsyncfs.library.numbers import ANNOTATION, IMAGE
from imgsyncfs.mount.errors import error_number
from imgsyncfs.settings.library import LibrarySettings
from imgsyncfs.workers.progress import SilentProgress

STEPS = int(os.environ.get("IMGSYNCFS_MODEL_STEPS", "100000"))
STEPS_EACH = 100
"""Most rules that one example goes through; one that reads makes several steps."""

CACHE_BYTES = 6 << 20
HELD = 4
DAMAGED_BYTES = 64
"""Of a saved listing, whose columns begin at multiples of that."""

FILE_FAULTS = ("flip", "flip", "flip", "shorten", "lengthen", "remove", "link", "pipe", "folder")
SIBLING = "labelme"

ERRNO = {BlobMissing: errno.EIO, BlobChanged: errno.ESTALE, StoreMissing: errno.EIO, AnnotationError: errno.EIO}
"""The README's table of failures: what a reader gets."""

some = st.integers(0, 255)
READ_BYTES = 5
reads = st.binary(min_size=4 * READ_BYTES, max_size=16 * READ_BYTES)
"""Each five bytes are a read: of which file, from where, how much."""

_steps: Counter[str] = Counter()


class LibraryModel(RuleBasedStateMachine):
    """A library beside its model."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="imgsyncfs-model-"))
        self.catalog = open_modelled_catalog(self.folder / "place")
        self.memory = memoryview(bytearray(VERIFIED_BYTES))
        self.library: Library | None = None
        self.writer: CacheWriter | None = None
        self.database: sqlite3.Connection | None = None
        self.shown: dict[str, Revision] = {}
        self.looked_up: dict[str, DatasetFiles] = {}
        self.held: list[tuple[DatasetFiles, Revision]] = []

    @initialize(seed=some)
    def begin(self, seed: int) -> None:
        """One dataset with a file that is large, and a library."""
        large = {f"{STEMS[0]}.jpg": image_content(31 + seed // 2 % 8 * 32)}
        small = {f"{STEMS[1]}.jpg": image_content(seed % 9), f"{STEMS[1]}.json": annotation_content(seed)}
        self.catalog.publish(DATASETS[0], {**large, **small}, packed=seed % 2 == 0)
        self._open()

    def teardown(self) -> None:
        """Look the cache over, and close everything."""
        if self.library is not None:
            self._verify()
        self._close()
        self.catalog.catalog.close()
        shutil.rmtree(self.folder)

    # What happens to the catalog.

    @precondition(lambda self: self._can_publish())
    @rule(which=some, packed=st.booleans(), changes=st.binary(min_size=2, max_size=16))
    def publish(self, which: int, packed: bool, changes: bytes) -> None:
        """Publish a dataset, new or with other files than it had."""
        dataset = DATASETS[which % len(DATASETS)]
        before = self.catalog.newest[dataset].files if dataset in self.catalog.newest else {}
        self.catalog.publish(dataset, self._changed(before, changes), packed=packed)
        _steps["publish"] += 1

    @precondition(lambda self: self._can_publish())
    @rule(which=some)
    def remove(self, which: int) -> None:
        """Remove a dataset."""
        self.catalog.remove(DATASETS[which % len(DATASETS)])
        _steps["remove"] += 1

    @rule()
    def refresh(self) -> None:
        """Ask the catalog."""
        _steps["refresh"] += 1
        library = self._library()
        if self.catalog.is_catalog_away:
            with contextlib.suppress(CatalogError):
                library.mirror.refresh()
            assert {row.decode() for row in library.datasets} == set(self.shown), "what was known is lost"
            return
        library.mirror.refresh()
        library.take_over()
        self.looked_up.clear()
        self.shown = dict(self.catalog.newest)
        assert {row.decode() for row in library.datasets} == set(self.shown)

    # What readers do.

    @rule(many=reads)
    def read(self, many: bytes) -> None:
        """Read some ranges of files."""
        self.read_ranges(many)

    def read_ranges(self, many: bytes) -> None:
        """Read some ranges of files; see `reads`."""
        for number in range(0, len(many) - READ_BYTES + 1, READ_BYTES):
            which, place, start, amount, unit = many[number : number + READ_BYTES]
            found = self._look_up(which)
            _steps["read"] += 1
            if found is not None:
                self._read(*found, place, start, amount, unit)

    @precondition(lambda self: self.held)
    @rule(many=reads)
    def read_what_is_open(self, many: bytes) -> None:
        """Likewise, of files that were opened some publishes ago."""
        for number in range(0, len(many) - READ_BYTES + 1, READ_BYTES):
            which, place, start, amount, unit = many[number : number + READ_BYTES]
            _steps["read of what is open"] += 1
            self._read(*self.held[which % len(self.held)], place, start, amount, unit)

    @rule(which=some)
    def hold(self, which: int) -> None:
        """Open files that stay open."""
        _steps["open"] += 1
        found = self._look_up(which)
        if found is not None:
            self.held = [*self.held[-HELD + 1 :], found]

    @rule(which=some)
    def list_files(self, which: int) -> None:
        """List a dataset."""
        _steps["list"] += 1
        found = self._look_up(which)
        if found is None:
            return
        files, revision = found
        stored: set[str] = set()
        rendered: set[str] = set()
        for name, kind, index, _ in files.entries_from(first_position(files.listing)):
            assert files.find(name) == FileKey(kind, index)
            assert files.name(FileKey(kind, index)) == name
            (stored if kind in {IMAGE, ANNOTATION} else rendered).add(name.decode())
        assert stored == set(revision.files)
        assert rendered == {
            f"{name.removesuffix('.json')}.{SIBLING}.json" for name in revision.files if name.endswith(".json")
        }

    @rule(which=some, place=some)
    def stat(self, which: int, place: int) -> None:
        """Look at all files' attributes, and at a name that is not there."""
        found = self._look_up(which)
        if found is None:
            return
        files, revision = found
        for name, file in revision.files.items():
            _steps["stat"] += 1
            key = files.find(name.encode())
            assert key is not None
            _, size, modified_at = files.attributes(key)
            assert (size, modified_at) == (len(file.content), file.modified_at)
        stem = STEMS[place % len(STEMS)]
        assert files.find(f"{stem}.png".encode()) is None
        assert (files.find(f"{stem}.json".encode()) is not None) == (f"{stem}.json" in revision.files)

    @rule(which=some, place=some)
    def look_at_sibling(self, which: int, place: int) -> None:
        """Look at what is rendered, and read it."""
        _steps["rendering"] += 1
        found = self._look_up(which)
        annotations = sorted(name for name in found[1].files if name.endswith(".json")) if found is not None else []
        if found is None or not annotations:
            return
        files, revision = found
        stem = annotations[place % len(annotations)].removesuffix(".json")
        file = revision.files[f"{stem}.json"]
        key = files.find(f"{stem}.{SIBLING}.json".encode())
        assert key is not None
        size, content = self._outcome(lambda: (files.attributes(key).size, files.read(key, 0, 1 << 24)), file)
        if content is not None:
            image = ImageInfo(files.listing.dataset_id, stem, "jpg", 30, 40, 3, 1)
            assert content == get_format(SIBLING).render(parse_annotation(file.content), image).content
            assert size == len(content)

    # What goes wrong.

    @rule(places=st.binary(min_size=1, max_size=4))
    def evict(self, places: bytes) -> None:
        """Evict some extents."""
        _steps["evict"] += 1
        keys = [key for (key,) in self._rows("SELECT key FROM Cache ORDER BY rowid") if isinstance(key, str)]
        if keys:
            self._writer().remove([keys[place % len(keys)] for place in places])

    @rule(places=st.binary(min_size=1, max_size=8), fault=st.sampled_from(FILE_FAULTS), many=reads)
    def damage_cached_contents(self, places: bytes, fault: str, many: bytes) -> None:
        """Damage extents of the cache that nobody has open, or has verified lately; and read."""
        _steps["damage to the cache"] += 1
        self._forget_verified()
        paths = sorted(path for path in self._cache.glob("?/*.val") if path.is_file() and not path.is_symlink())
        for place in places if paths else b"":
            self._damage(paths[place % len(paths)], fault, place)
        for number, content in self._rows("SELECT rowid, value FROM Cache WHERE typeof(value) = 'blob'"):
            if fault == "flip" and number % 2:
                self._rows("UPDATE Cache SET value = ? WHERE rowid = ?", _flipped(content, places[0]), number)
        self.read_ranges(many)

    @rule(
        place=some,
        column=st.sampled_from(["tag", "filename", "value", "size", "raw", "access_time", "mode", "key"]),
        value=st.one_of(
            st.none(),
            st.integers(-(2**63), 2**63 - 1),
            st.floats(),
            st.binary(max_size=6),
            st.sampled_from(["", "0", "/etc/passwd", "../../x.val", "0-d41d8cd98f00b204e9800998ecf8427e", "a\0b"]),
        ),
    )
    def damage_row(self, place: int, column: str, value: Any) -> None:
        """Put anything into a row of the cache's database."""
        _steps["damage to the cache"] += 1
        self._forget_verified()
        rows = [number for (number,) in self._rows("SELECT rowid FROM Cache ORDER BY rowid")]
        if rows:
            # A key may be there once.
            with contextlib.suppress(sqlite3.IntegrityError):
                self._rows(f"UPDATE Cache SET {column} = ? WHERE rowid = ?", value, rows[place % len(rows)])

    @precondition(lambda self: not self.catalog.is_store_away)
    @rule(place=some, fault=st.sampled_from(BLOB_FAULTS))
    def damage_blob(self, place: int, fault: str) -> None:
        """Do to a blob what publishing never does."""
        _steps["damage to the store"] += 1
        files = [file for revision in self.shown.values() for file in revision.files.values()]
        blobs = sorted({file.blob for file in files if file.content} - self.catalog.blob_faults.keys())
        if blobs:
            self.catalog.damage_blob(blobs[place % len(blobs)], fault)

    @precondition(lambda self: self.catalog.blob_faults and not self.catalog.is_store_away)
    @rule()
    def mend_blobs(self) -> None:
        """Make the store what it was."""
        _steps["mend"] += 1
        for blob in [*self.catalog.blob_faults]:
            self.catalog.mend_blob(blob)

    @rule(what=some)
    def cut(self, what: int) -> None:
        """Take the store away, or the catalog, or bring it back."""
        _steps["cut"] += 1
        catalog = self.catalog
        if what % 2:
            (catalog.bring_store_back if catalog.is_store_away else catalog.cut_store)()
        else:
            (catalog.bring_catalog_back if catalog.is_catalog_away else catalog.cut_catalog)()

    @rule(what=some, place=some, at=st.integers(0, 4095), byte=some)
    def begin_anew(self, what: int, place: int, at: int, byte: int) -> None:
        """Have the cache look itself over, or open another library, also with a saved listing that is damaged."""
        if what < 160 or self.catalog.is_catalog_away:
            # It takes long.
            return
        if what < 168:
            self._verify()
            return
        _steps["remount"] += 1
        self._close()
        saved = sorted(path for path in (self.folder / "cache" / "catalogs").rglob("*") if path.is_file())
        if saved and what < 240:
            _steps["damage to the cache"] += 1
            path = saved[place % len(saved)]
            content = bytearray(path.read_bytes())
            at %= len(content)
            content[at : at + DAMAGED_BYTES] = bytes([byte]) * len(content[at : at + DAMAGED_BYTES])
            path.write_bytes(content)
        self._open()
        for number in range(len(self.shown)):
            self.list_files(number)
            self.stat(number, place)

    # How all that is done.

    @property
    def _cache(self) -> Path:
        return extents_folder(self.folder / "cache")

    def _damage(self, path: Path, fault: str, place: int) -> None:
        if not path.is_file() or path.is_symlink():
            return
        content = path.read_bytes()
        path.unlink()
        if fault == "flip":
            path.write_bytes(_flipped(content, place))
        elif fault == "shorten":
            path.write_bytes(content[: place * len(content) // 256])
        elif fault == "lengthen":
            path.write_bytes(content + content[:place])
        elif fault == "link":
            path.symlink_to(self.folder / "place" / "catalog.db")
        elif fault == "pipe":
            os.mkfifo(path)
        elif fault == "folder":
            path.mkdir()

    def _verify(self) -> None:
        """Have the cache look itself over; afterwards nothing in it is wrong."""
        _steps["verify"] += 1
        self._forget_verified()
        verify_cache(self._cache, progress=SilentProgress())
        assert not verify_cache(self._cache, progress=SilentProgress()).damaged

    def _rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """What the cache's database says to a statement."""
        assert self.database is not None
        with self.database:
            return self.database.execute(statement, values).fetchall()

    def _writer(self) -> CacheWriter:
        assert self.writer is not None
        return self.writer

    def _library(self) -> Library:
        assert self.library is not None
        return self.library

    def _can_publish(self) -> bool:
        return not (self.catalog.is_catalog_away or self.catalog.is_store_away)

    def _open(self) -> None:
        limits = LibrarySettings(
            catalog=self.catalog.url,
            password=None,
            stores={},
            cache_dir=str(self.folder / "cache"),
            cache_size=CACHE_BYTES,
            timeout=20.0,
            siblings=(SIBLING,),
        )
        self._forget_verified()
        library = Library(limits, workers=workers_within(limits), verified=VerifiedExtents(self.memory, 0.0))
        self.library = library
        self.writer = CacheWriter(self._cache, size_limit=CACHE_BYTES)
        self.database = sqlite3.connect(self._cache / DATABASE_NAME)
        if not self.catalog.is_catalog_away:
            self.shown = dict(self.catalog.newest)
        assert {row.decode() for row in library.datasets} == set(self.shown)

    def _close(self) -> None:
        self.looked_up.clear()
        self.held.clear()
        for each in (self.library, self.writer, self.database):
            if each is not None:
                each.close()
        self.library = self.writer = self.database = None

    def _forget_verified(self) -> None:
        """As if ten seconds had passed, and other extents been read since."""
        self.memory[:] = bytes(VERIFIED_BYTES)
        if self.library is not None:
            self.library.cache.drop(list(self.library.cache._open))

    def _changed(self, before: Files, changes: bytes) -> dict[str, bytes]:
        """Files of which some are new, some changed, some gone."""
        files = {name: file.content for name, file in before.items()}
        for what, variant in zip(changes[::2], changes[1::2], strict=False):
            stem = STEMS[what % len(STEMS)]
            if what >= 192:
                files.pop(f"{stem}.json", None)
                files.pop(f"{stem}.jpg", None)
            elif what >= 128 and f"{stem}.jpg" in files:
                files[f"{stem}.json"] = annotation_content(variant)
            else:
                files[f"{stem}.jpg"] = image_content(variant)
        return files

    def _look_up(self, which: int) -> tuple[DatasetFiles, Revision] | None:
        """The files of a dataset that is shown, and the revision that they must be of."""
        if not self.shown:
            return None
        dataset = sorted(self.shown)[which % len(self.shown)]
        files = self.looked_up.get(dataset) if which < 224 else None
        if files is None:
            try:
                files = self._library().files(dataset)
            except NotInCatalog:
                assert dataset not in self.catalog.newest
                return None
            except CatalogError:
                assert self.catalog.is_catalog_away
                return None
            self.looked_up[dataset] = files
        revision = self.catalog.history[files.listing.key]
        assert revision.number >= self.shown[dataset].number, "older than what is shown"
        return files, revision

    def _read(self, files: DatasetFiles, revision: Revision, place: int, start: int, amount: int, unit: int) -> None:
        names = sorted(revision.files)
        if not names:
            return
        name = names[place % len(names)]
        file = revision.files[name]
        key = files.find(name.encode())
        assert key is not None
        # From the beginning, from somewhere, or around the end.
        length = len(file.content)
        offset = (0, start * length // 256, max(0, length - start), length + start)[unit % 4]
        size = (amount, amount * 257, length, 1 << 20)[unit // 4 % 4]
        if unit >= 128:
            room = bytearray(size)
            count = self._outcome(lambda: (files.read_into(key, offset, memoryview(room)), b""), file)[0]
            content = None if count is None else bytes(room[:count])
        else:
            _, content = self._outcome(lambda: (0, files.read(key, offset, size)), file)
        assert content is None or content == file.content[offset : offset + size], f"wrong bytes of {name}"

    def _outcome(self, read: Callable[[], tuple[int, bytes]], file: ModelFile) -> tuple[int, bytes] | tuple[None, None]:
        """What is read; nothing where that fails as it must."""
        try:
            return read()
        except ImgsyncfsError as error:
            failure = error
        assert self._may_fail(failure, file), f"{type(failure).__name__} for nothing: {failure}"
        assert error_number(failure, "read") == ERRNO[type(failure)]
        _steps["failure as documented"] += 1
        return None, None

    def _may_fail(self, error: ImgsyncfsError, file: ModelFile) -> bool:
        if isinstance(error, AnnotationError):
            return file.content.startswith(BROKEN_ANNOTATION)
        if not isinstance(error, StoreError):
            return False
        if self.catalog.is_store_away:
            return isinstance(error, StoreMissing)
        fault = self.catalog.blob_faults.get(file.blob)
        return isinstance(error, {None: (), "gone": BlobMissing, "altered": BlobChanged, "shorter": BlobChanged}[fault])


def _flipped(content: bytes, place: int) -> bytes:
    """A content with one bit that is another."""
    at = place * len(content) // 256
    return content[:at] + bytes(byte ^ 1 for byte in content[at : at + 1]) + content[at + 1 :]


@pytest.fixture
def _logs_hold_no_objects() -> Iterator[None]:
    """What is logged is kept until a test ends; errors keep their tracebacks, and these the files of libraries."""
    before = logging.getLogRecordFactory()

    def as_text(*arguments: Any, **named: Any) -> logging.LogRecord:
        record = before(*arguments, **named)
        record.msg, record.args = record.getMessage(), ()
        return record

    logging.setLogRecordFactory(as_text)
    yield
    logging.setLogRecordFactory(before)


@pytest.mark.slow
# What is found is made as short as it can be, for up to five minutes.
@pytest.mark.timeout(600 + STEPS // 50)
@pytest.mark.usefixtures("_logs_hold_no_objects")
def test_every_byte_that_a_library_reads_is_what_its_model_has_or_fails_as_documented() -> None:
    begun = time.monotonic()
    while sum(_steps.values()) < STEPS:
        run_state_machine_as_test(
            LibraryModel,
            settings=settings(
                max_examples=20,
                stateful_step_count=STEPS_EACH,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
    seconds = time.monotonic() - begun
    count = sum(_steps.values())
    print(f"{count:,} steps in {seconds:.0f} s, {count / seconds:,.0f} a second: {dict(_steps)}")
