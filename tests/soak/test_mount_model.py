"""A mount beside plain dictionaries that say what it must show, under whatever may happen to it.

As `test_library_model`, through the kernel: with open and mapped files, processes that are killed, and mounts that end
and come up again. ``IMGSYNCFS_MOUNT_MODEL_STEPS=100000 scripts/test soak -k mount_gives`` makes as many
steps; a run says how many it made.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import random
import shutil
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from support.modelled_catalog import (
    BLOB_FAULTS,
    DATASETS,
    STEMS,
    Files,
    ModelFile,
    ModelledCatalog,
    Revision,
    annotation_content,
    image_content,
    open_modelled_catalog,
)
from support.mounting import Workplace, eventually, mount_status, process_ids

from imgsyncfs.cache import CacheWriter, extents_folder
from imgsyncfs.cache.table import DATABASE_NAME

STEPS = int(os.environ.get("IMGSYNCFS_MOUNT_MODEL_STEPS", "3000"))
STEPS_EACH = 60
"""Most rules that one example goes through; one that reads makes several steps."""

CACHE_BYTES = 6 << 20
HELD = 4

FAULT_ERRNO = {"gone": errno.EIO, "altered": errno.ESTALE, "shorter": errno.ESTALE}
"""The README's table of failures: what a reader gets."""

some = st.integers(0, 255)
READ_BYTES = 5
reads = st.binary(min_size=2 * READ_BYTES, max_size=12 * READ_BYTES)
"""Each five bytes are a read: of which file, from where, how much, and how."""

Attributes = dict[str, tuple[int, int]]
"""Name of each file of a directory to its size and the time of its last change."""

_steps: Counter[str] = Counter()


class ModelledMount:
    """A mount that comes and goes, and the catalog behind it.

    Args:
        folder: holds everything.
    """

    def __init__(self, folder: Path) -> None:
        self.catalog = open_modelled_catalog(folder / "place")
        self.workplace = Workplace(self.catalog.url, folder)
        self.place = folder / "mnt"
        self.place.mkdir()

    @property
    def cache(self) -> Path:
        """The extents' folder."""
        return extents_folder(self.workplace.folder / "cache")

    def begin(self) -> None:
        """Mount; the table of datasets is asked for when somebody says so."""
        self.workplace.run(
            "mount", self.place, "--siblings", "none", "--refresh", "3600", "--timeout", "10",
            "--cache-size", str(CACHE_BYTES),
        )  # fmt: skip

    def end(self) -> None:
        """Unmount; all its processes are gone then."""
        self.workplace.run("umount", self.place)
        assert eventually(lambda: not self.workplace.processes_left()), "processes outlived the mount"

    def refresh(self) -> str:
        """Have the mount ask the catalog; returns why it could not."""
        answer = (self.place / ".imgsyncfs" / "refresh").read_bytes()
        return "" if b'"trouble":""' in answer.replace(b" ", b"") else answer.decode()

    def kill(self, place: int) -> None:
        """Kill a process that is replaced."""
        status = mount_status(self.place)
        processes = [*status["responders"]["process_ids"], *status["workers"]["process_ids"]]
        with contextlib.suppress(ProcessLookupError):
            os.kill(processes[place % len(processes)], signal.SIGKILL)

    def kill_coordinator(self) -> None:
        """Kill the one process that is not replaced, and mount again."""
        os.kill(process_ids(self.place)[0], signal.SIGKILL)
        assert eventually(lambda: not self.workplace.processes_left()), "processes outlived the coordinator"
        self.begin()


class MountModel(RuleBasedStateMachine):
    """A mount beside its model."""

    mount: ClassVar[ModelledMount]

    def __init__(self) -> None:
        super().__init__()
        self.catalog: ModelledCatalog = self.mount.catalog
        self.shown: dict[str, Revision] = {}
        self.held: list[tuple[int, ModelFile]] = []
        for dataset in DATASETS:
            self.catalog.remove(dataset)
        self.catalog.publish(DATASETS[0], self._changed({}, bytes(range(12))), packed=True)
        self.refresh()

    def teardown(self) -> None:
        """Make the catalog and its store what they were."""
        self._close_held()
        if self.catalog.is_store_away:
            self.catalog.bring_store_back()
        if self.catalog.is_catalog_away:
            self.catalog.bring_catalog_back()
        self.mend_blobs()

    # What happens to the catalog.

    @precondition(lambda self: self._is_all_there())
    @rule(which=some, packed=st.booleans(), changes=st.binary(min_size=2, max_size=16))
    def publish(self, which: int, packed: bool, changes: bytes) -> None:
        """Publish a dataset, new or with other files than it had."""
        _steps["publish"] += 1
        dataset = DATASETS[which % len(DATASETS)]
        before = self.catalog.newest[dataset].files if dataset in self.catalog.newest else {}
        self.catalog.publish(dataset, self._changed(before, changes), packed=packed)

    @precondition(lambda self: self._is_all_there())
    @rule(which=some)
    def remove(self, which: int) -> None:
        """Remove a dataset."""
        _steps["remove"] += 1
        self.catalog.remove(DATASETS[which % len(DATASETS)])

    @rule()
    def refresh(self) -> None:
        """Have the mount ask the catalog."""
        _steps["refresh"] += 1
        trouble = self.mount.refresh()
        if not self.catalog.is_catalog_away:
            assert not trouble
            self.shown = dict(self.catalog.newest)
            assert {path.name for path in self.mount.place.iterdir()} == set(self.shown)

    # What readers do.

    @rule(many=reads)
    def read(self, many: bytes) -> None:
        """Read some files, in part or whole, or mapped."""
        for which, place, start, amount, how in _fives(many):
            _steps["read"] += 1
            dataset = self._dataset(which)
            if dataset is not None:
                self._read(dataset, place, start, amount, how)

    @precondition(lambda self: self.held)
    @rule(many=reads)
    def read_what_is_open(self, many: bytes) -> None:
        """Read files that were opened some publishes ago."""
        for which, _, start, amount, how in _fives(many):
            _steps["read of what is open"] += 1
            descriptor, file = self.held[which % len(self.held)]
            offset, size = _range(file, start, amount, how)
            content = self._outcome(lambda: _read_at(descriptor, offset, size, how), [file])  # noqa: B023
            assert content is None or content == file.content[offset : offset + size]

    @rule(which=some, place=some)
    def open_file(self, which: int, place: int) -> None:
        """Open a file that stays open; while it is known which one it is."""
        _steps["open"] += 1
        dataset = self._dataset(which)
        candidates = self._candidates(dataset) if dataset is not None else []
        names = sorted(candidates[0].files) if len(candidates) == 1 else []
        if not names:
            return
        name = names[place % len(names)]
        descriptor = self._opened(str(dataset), name, candidates)
        if descriptor is None:
            return
        self.held.append((descriptor, candidates[0].files[name]))
        if len(self.held) > HELD:
            os.close(self.held.pop(0)[0])

    @rule(which=some)
    def list_files(self, which: int) -> None:
        """List a dataset and look at each file: all of one revision."""
        _steps["list"] += 1
        dataset = self._dataset(which)
        if dataset is None:
            return
        folder = self.mount.place / dataset
        found = self._looked_up(
            lambda: {entry.name: (entry.stat().st_size, int(entry.stat().st_mtime)) for entry in os.scandir(folder)},
            dataset,
        )
        said = [
            {name: (len(file.content), file.modified_at) for name, file in each.files.items()}
            for each in self._candidates(dataset)
        ]
        assert found is None or found in said, f"listed is {found}, and no revision of {said}"

    @rule(which=some, place=some)
    def look_for_what_is_not_there(self, which: int, place: int) -> None:
        """Look for names that no revision has."""
        _steps["look for what is not there"] += 1
        dataset = DATASETS[which % len(DATASETS)]
        with pytest.raises(OSError, match=r"Errno") as caught:
            (self.mount.place / dataset / f"{STEMS[place % len(STEMS)]}.png").stat()
        if caught.value.errno != errno.ENOENT:
            self._check_unseen(dataset, caught.value)

    # What goes wrong.

    @rule(places=st.binary(min_size=1, max_size=4))
    def evict(self, places: bytes) -> None:
        """Evict some extents."""
        _steps["evict"] += 1
        with contextlib.closing(sqlite3.connect(self.mount.cache / DATABASE_NAME)) as database:
            keys = [key for (key,) in database.execute("SELECT key FROM Cache ORDER BY rowid")]
        with contextlib.closing(CacheWriter(self.mount.cache, size_limit=CACHE_BYTES)) as writer:
            writer.remove([keys[place % len(keys)] for place in places if keys])

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

    @rule(what=some, place=some, many=reads)
    def kill(self, what: int, place: int, many: bytes) -> None:
        """Kill a process; or end the mount, damage its cache, and mount again. And read."""
        if what < 192:
            # It takes long.
            return
        if what < 244:
            _steps["kill"] += 1
            self.mount.kill(place)
        elif not self._is_all_there():
            return
        elif what < 249:
            _steps["kill of the coordinator"] += 1
            self._close_held()
            self.mount.kill_coordinator()
        else:
            _steps["remount, with a damaged cache"] += 1
            self._close_held()
            self.mount.end()
            self._damage_cache(place)
            self.mount.begin()
        if what >= 244:
            self.shown = dict(self.catalog.newest)
        self.read(many)

    # How all that is done.

    def _is_all_there(self) -> bool:
        return not (self.catalog.is_catalog_away or self.catalog.is_store_away)

    def _close_held(self) -> None:
        for descriptor, _ in self.held:
            os.close(descriptor)
        self.held.clear()

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

    def _damage_cache(self, seed: int) -> None:
        """Change contents in the cache, in files and in the database."""
        chance = random.Random(seed)
        for path in sorted(self.mount.cache.glob("?/*.val")):
            content = bytearray(path.read_bytes())
            if content and chance.random() < 0.7:
                content[chance.randrange(len(content))] ^= 1
                path.write_bytes(content if chance.random() < 0.7 else content[: len(content) // 2])
        with contextlib.closing(sqlite3.connect(self.mount.cache / DATABASE_NAME)) as database, database:
            rows = database.execute("SELECT rowid, value FROM Cache WHERE typeof(value) = 'blob'").fetchall()
            for number, value in rows:
                if value and chance.random() < 0.7:
                    place = chance.randrange(len(value))
                    changed = value[:place] + bytes([value[place] ^ 1]) + value[place + 1 :]
                    database.execute("UPDATE Cache SET value = ? WHERE rowid = ?", (changed, number))

    def _dataset(self, which: int) -> str | None:
        return sorted(self.shown)[which % len(self.shown)] if self.shown else None

    def _candidates(self, dataset: str) -> list[Revision]:
        """The revisions that a dataset may show: what was refreshed to last, and what was published since.

        A mount reads a listing when somebody looks, and asks the catalog at once when a blob turns out to be another.
        """
        least = self.shown[dataset].number
        found = [each for each in self.catalog.history.values() if each.number >= least and each.dataset == dataset]
        return sorted(found, key=lambda each: each.number)

    def _looked_up(
        self, look: Callable[[], dict[str, tuple[int, int]]], dataset: str
    ) -> dict[str, tuple[int, int]] | None:
        """What is seen of a directory; None where it cannot be."""
        try:
            return look()
        except OSError as error:
            failure = error
        self._check_unseen(dataset, failure)
        return None

    def _check_unseen(self, dataset: str, failure: OSError) -> None:
        """A dataset cannot be looked into that is gone, or whose listing was never read while the catalog is away."""
        is_gone = dataset not in self.catalog.newest and failure.errno in {errno.ENOENT, errno.ESTALE}
        assert is_gone or (self.catalog.is_catalog_away and failure.errno == errno.EIO), failure

    def _opened(self, dataset: str, name: str, candidates: Sequence[Revision]) -> int | None:
        """A file that some of the revisions have; None if it cannot be opened."""
        try:
            return os.open(self.mount.place / dataset / name, os.O_RDONLY)
        except OSError as error:
            failure = error
        is_new = not all(name in each.files for each in candidates)
        if not (is_new and failure.errno == errno.ENOENT):
            self._check_unseen(dataset, failure)
        return None

    def _read(self, dataset: str, place: int, start: int, amount: int, how: int) -> None:
        candidates = self._candidates(dataset)
        names = sorted(candidates[-1].files)
        if not names:
            return
        name = names[place % len(names)]
        files = [each.files[name] for each in candidates if name in each.files]
        descriptor = self._opened(dataset, name, candidates)
        if descriptor is None:
            return
        try:
            size = os.fstat(descriptor).st_size
            right = [file for file in files if len(file.content) == size]
            assert right, f"{name} has a length that it never had"
            offset, length = _range(right[-1], start, amount, how)
            content = self._outcome(lambda: _read_at(descriptor, offset, length, how), right)
            assert content is None or any(content == file.content[offset : offset + length] for file in right), (
                f"wrong bytes of {name}"
            )
            if content is not None and how % 8 == 7 and size:
                self._read_mapped(descriptor, right)
        finally:
            os.close(descriptor)

    def _read_mapped(self, descriptor: int, right: Sequence[ModelFile]) -> None:
        """Read a file through a map, if nothing is wrong: an error would be a signal to this process."""
        if self.catalog.is_store_away or self.catalog.blob_faults:
            return
        _steps["read through a map"] += 1
        with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as mapped:
            assert any(mapped[:] == file.content for file in right), "wrong bytes in a map"
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def _outcome(self, read: Callable[[], bytes], files: Sequence[ModelFile]) -> bytes | None:
        """What is read; None where that fails as it must."""
        try:
            return read()
        except OSError as error:
            failure = error
        allowed = {FAULT_ERRNO[fault] for file in files if (fault := self.catalog.blob_faults.get(file.blob))}
        if self.catalog.is_store_away:
            allowed.add(errno.EIO)
        assert failure.errno in allowed, f"{failure} for nothing"
        _steps["failure as documented"] += 1
        return None


def _fives(many: bytes) -> Iterator[bytes]:
    return (many[start : start + READ_BYTES] for start in range(0, len(many) - READ_BYTES + 1, READ_BYTES))


def _range(file: ModelFile, start: int, amount: int, how: int) -> tuple[int, int]:
    """From the beginning, from somewhere, or around the end."""
    length = len(file.content)
    offset = (0, start * length // 256, max(0, length - start), length + start)[how % 4]
    return offset, (amount, amount * 257, length, 1 << 20)[how // 4 % 4]


def _read_at(descriptor: int, offset: int, size: int, how: int) -> bytes:
    """Read a part of an open file, by seeking or at once; its pages are dropped, so that the mount is asked again."""
    try:
        parts = []
        if how & 128:
            os.lseek(descriptor, offset, os.SEEK_SET)
        while size > 0:
            part = os.read(descriptor, size) if how & 128 else os.pread(descriptor, size, offset)
            if not part:
                break
            parts.append(part)
            offset, size = offset + len(part), size - len(part)
        return b"".join(parts)
    finally:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[ModelledMount]:
    """A mount of an empty catalog."""
    made = ModelledMount(tmp_path)
    made.begin()
    try:
        yield made
    finally:
        if os.path.ismount(made.place):
            made.end()
        made.catalog.catalog.close()
        shutil.rmtree(made.catalog.folder)


@pytest.mark.slow
@pytest.mark.timeout(600 + STEPS // 10)
def test_every_byte_that_a_mount_gives_is_what_its_model_has_or_fails_as_documented(mount: ModelledMount) -> None:
    MountModel.mount = mount
    begun = time.monotonic()
    while sum(_steps.values()) < STEPS:
        run_state_machine_as_test(
            MountModel,
            settings=settings(
                max_examples=5,
                stateful_step_count=STEPS_EACH,
                deadline=None,
                # Processes of their own do not do the same twice at the same moment: what is found is not made shorter.
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
    seconds = time.monotonic() - begun
    count = sum(_steps.values())
    print(f"{count:,} steps in {seconds:.0f} s, {count / seconds:,.0f} a second: {dict(_steps)}")
