"""Copy datasets to plain folders ``TARGET/<dataset>/<files>``: only what is missing or differs.

- A file under its final name is always whole: it is written under a temporary name, checked, brought to the disk, noted
  in the record and then renamed. Whatever ends a sync, the next one goes on from there and removes what it left.
- What somebody changed in the target is never overwritten or removed unasked. The record
  (`imgsyncfs.tools.sync.record`) says how sync left each file; length and time decide, the digest where they differ.
- Nothing is read of files that are as they were left.
- Documents about a dataset as a whole come last: whoever finds one finds the images that it names.

Threads: this module's functions run on the caller's thread, and it alone has the record and gives files their final
names. A few threads bring the files (`imgsyncfs.tools.sync.copying`); worker processes of the library fetch what they
read.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from imgsyncfs.catalog import catalog_identity
from imgsyncfs.catalog.naming import file_name_fault
from imgsyncfs.errors import CatalogUnreachable, StoreError, SyncError
from imgsyncfs.formats.losses_file import LOSSES_NAME, losses_text
from imgsyncfs.library.library import Library
from imgsyncfs.library.views.contract import View
from imgsyncfs.stores.local import sync_folder
from imgsyncfs.tools.sync.content import DocumentContent
from imgsyncfs.tools.sync.copying import (
    STORE_FAULTS,
    Copier,
    Outcome,
    Result,
    Task,
    current_entry,
    is_as_left,
    is_disk_full,
    look_at,
    remove_leftovers,
)
from imgsyncfs.tools.sync.losses import DatasetLosses
from imgsyncfs.tools.sync.record import Entry, SyncRecord, disk_full, refuse_link
from imgsyncfs.tools.sync.removal import remove_directories, remove_file, remove_files, remove_gone_dataset
from imgsyncfs.tools.sync.source import DatasetSource, SourceFile
from imgsyncfs.tools.sync.summary import DatasetSummary, SyncSummary, Tally
from imgsyncfs.workers.progress import Progress, SilentProgress

__all__ = ["DatasetSummary", "SyncSummary", "sync"]

THREADS = 16
"""They wait for the store, or for the disk to have what was written."""

AHEAD = 4
"""How many files a thread may have waiting, so that one that takes long leaves no thread idle."""

SHOWN_SECONDS = 0.2
"""How often is shown how far a document is."""

END_SECONDS = 3.0
"""How long to wait for threads when sync is broken off. One that a store keeps waiting ends by itself, later."""


@dataclass(frozen=True)
class _Run:
    """What holds for all datasets of one sync."""

    library: Library
    target: Path
    record: SyncRecord
    overwrite: bool
    progress: Progress
    copied: Callable[[int], None]

    @property
    def catalog(self) -> str:
        """A stable name of the catalog."""
        return catalog_identity(self.library.settings.catalog)

    def copier(self) -> Copier:
        """One that has not been stopped."""
        return Copier(self.overwrite, self.library.settings.timeout, threading.Event())


def sync(
    library: Library,
    target: Path,
    *,
    datasets: Sequence[str],
    amount: int | None = None,
    view: View | None = None,
    delete: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
    copied: Callable[[int], None] | None = None,
    finished: Callable[[DatasetSummary], None] | None = None,
    open_record: Callable[[Path], SyncRecord] = SyncRecord,
) -> SyncSummary:
    """Copy datasets to folders.

    Args:
        library: of the catalog; its siblings are copied as well.
        target: a folder, made if it is missing; each dataset becomes a folder in it.
        datasets: ids; none if it is empty.
        amount: how many images to take of each dataset, with what belongs to them: the first by name, so that a larger
            amount takes these and more. None for all.
        view: the layout to copy, with the annotations in a tool's format; None for images, house annotations and the
            library's siblings.
        delete: remove what is no longer in the catalog: files that sync wrote and nobody changed, also those of
            datasets that are gone.
        overwrite: replace what somebody changed.
        progress: in files of each dataset, kept ones included.
        copied: called with the bytes of each file that was copied.
        finished: called with each dataset when it is done.
        open_record: opens the record of a target folder.

    Returns:
        What was done. Files that could not be read are in it, and did not keep the others from being copied.

    Raises:
        ConfigurationError: a dataset is unknown.
        CatalogError: a listing cannot be read; or files shall be removed, and the catalog cannot say which.
        StoreError: no store can be reached.
        SyncError: the folder cannot be written, is in use by another sync, or has not enough space.
    """
    rows = library.find(datasets)
    if delete and not library.mirror.table.read_at:
        raise CatalogUnreachable(f"{library.mirror.trouble} Without the catalog nothing can be deleted in {target}.")
    with _writing(target):
        target.mkdir(parents=True, exist_ok=True)
    with open_record(target) as record:
        run = _Run(library, target, record, overwrite, progress or SilentProgress(), copied or (lambda _: None))
        sources = [DatasetSource(library, row.dataset_id, amount=amount, view=view) for row in rows]
        _check_space(run, sources)
        summaries = [*_sync_datasets(run, sources, delete=delete, finished=finished or (lambda _: None))]
        if delete:
            summaries += _remove_gone_datasets(run)
    return SyncSummary(tuple(summaries))


def _sync_datasets(
    run: _Run, sources: Sequence[DatasetSource], *, delete: bool, finished: Callable[[DatasetSummary], None]
) -> Iterator[DatasetSummary]:
    """Bring the datasets' folders up to date, one after the other.

    Raises:
        StoreError: no store can be reached. If another one can, the datasets that lie in it are copied.
    """
    stores = {source.store for source in sources}
    unreadable: dict[str, StoreError] = {}
    for source in sources:
        tally = Tally(source.dataset_id)
        if source.store not in unreadable:
            run.record.put_dataset(source.dataset_id, run.catalog)
            try:
                _sync_dataset(run, source, tally, delete=delete)
            except STORE_FAULTS as error:
                unreadable[source.store] = error
        if unreadable.keys() == stores:
            raise unreadable[source.store]
        if source.store in unreadable:
            tally.fail("", str(unreadable[source.store]))
        summary = tally.summary()
        finished(summary)
        yield summary


def _check_space(run: _Run, sources: Sequence[DatasetSource]) -> None:
    """See that the disk has space for what is missing, as far as sizes are known before anything is rendered.

    Raises:
        SyncError: it has not.
    """
    disk = os.statvfs(run.target)
    free = disk.f_bavail * disk.f_frsize
    # Mostly there is space for all of them once more; then no file needs to be looked at.
    if sum(source.most_bytes(disk.f_frsize) for source in sources) <= free:
        return
    missing = sum(_missing_bytes(run, source, disk.f_frsize) for source in sources)
    if missing > free:
        raise SyncError(
            f"{run.target} has no room for what is missing: {missing:,} bytes are needed and {free:,} are free; make "
            "room, or take fewer images of each dataset.",
            option="amount",
        )


def _missing_bytes(run: _Run, source: DatasetSource, block_bytes: int) -> int:
    missing = 0
    for task in _tasks(run, source.dataset_id, source):
        wanted = -(-(task.source.byte_count or 0) // block_bytes) * block_bytes
        if task.found is None:
            missing += wanted
        elif is_as_left(task.found, task.entries) and not current_entry(task.found, task.entries, task.source):
            missing += wanted - task.found.st_blocks * 512
    return missing


def _tasks(
    run: _Run,
    dataset_id: str,
    files: Iterable[SourceFile],
    *,
    leave_out: Callable[[str, str], None] = lambda _path, _reason: None,
) -> Iterator[Task]:
    folder = run.target / dataset_id
    for file in files:
        # A listing that was saved, and damaged since, may have any.
        fault = file_name_fault(file.name)
        if fault is not None:
            leave_out(file.path, fault)
            continue
        path = folder / file.path
        with _writing(folder):
            found = look_at(path)
        yield Task(file, path, found, run.record.entries(dataset_id, file.path))


def _sync_dataset(run: _Run, source: DatasetSource, tally: Tally, *, delete: bool) -> None:
    """Bring one dataset's folder up to date."""
    folder = run.target / source.dataset_id
    directories = _make_directories(run, source)
    run.progress.phase(f"Syncing files : {source.dataset_id}", source.file_count(), "files")
    losses = DatasetLosses()
    has_losses_file = False
    try:
        _bring_files(run, source, tally, losses)
        _bring_documents(run, source, tally, losses)
        if source.names_losses:
            has_losses_file = _put_losses(run, source, tally, losses)
    finally:
        for directory in directories:
            with contextlib.suppress(OSError):
                remove_leftovers(directory)
    if delete:
        kept = {LOSSES_NAME} if has_losses_file else set[str]()
        is_gone = lambda path: path not in kept and not source.has(path)  # noqa: E731 - read where it is used
        remove_files(run.record, folder, tally, is_gone=is_gone)
        remove_directories(run.record, folder, tally, keep=source.directories)
    elif source.directories:
        # An image in two splits would be learned from and tested with.
        remove_files(run.record, folder, tally, is_gone=source.has_elsewhere)
    if tally.copied or tally.removed:
        for directory in directories:
            with _writing(directory):
                sync_folder(directory)


def _make_directories(run: _Run, source: DatasetSource) -> list[Path]:
    """Make the dataset's folder and the directories in it, and remove what a stopped sync left there."""
    folder = run.target / source.dataset_id
    made = []
    for path in ("", *source.directories):
        directory = folder / path
        fault = file_name_fault(directory.name)
        if fault is not None:
            raise SyncError(f"{folder} cannot have a directory {path!r}: {fault}.")
        with _writing(directory):
            refuse_link(directory)
            if path:
                run.record.put_directory(source.dataset_id, path)
            directory.mkdir(exist_ok=True)
            remove_leftovers(directory)
        made.append(directory)
    return made


def _bring_files(run: _Run, source: DatasetSource, tally: Tally, losses: DatasetLosses) -> None:
    tasks = _pending(run, source.dataset_id, source, tally, losses, kept=run.progress.advance)
    with contextlib.closing(_bring(tasks, run.copier())) as brought:
        for task, outcome in brought:
            _take(run, tally, losses, task, outcome)
            run.progress.advance(1)


def _bring_documents(run: _Run, source: DatasetSource, tally: Tally, losses: DatasetLosses) -> None:
    """Bring the documents, one after the other: each has threads of its own."""
    for task in _pending(run, source.dataset_id, source.documents(), tally, losses):
        content = task.source.content
        if not isinstance(content, DocumentContent):
            _take(run, tally, losses, task, run.copier().bring(task))
            continue
        images = source.images_in(task.source)
        run.progress.phase(f"Writing {task.source.path} : {source.dataset_id}", images, "images")
        _take(run, tally, losses, task, _bring_watched(run, task, content))


def _bring_watched(run: _Run, task: Task, content: DocumentContent) -> Outcome:
    """Have a document written, and show how far it is."""
    copier, shown = run.copier(), 0
    pool = ThreadPoolExecutor(1, thread_name_prefix="sync-document")
    writing = pool.submit(copier.bring, task)
    try:
        while not writing.done():
            concurrent.futures.wait([writing], timeout=SHOWN_SECONDS)
            count = content.read_images
            run.progress.advance(max(0, count - shown))
            shown = max(shown, count)
        return writing.result()
    finally:
        _end(copier, pool, [writing])


def _put_losses(run: _Run, source: DatasetSource, tally: Tally, losses: DatasetLosses) -> bool:
    """Write what the dataset's files do not show, or remove what was written before; whether there is something."""
    text = losses_text(source.names_losses, source.dataset_id, [*source.layout_losses, *losses.united()])
    if not text:
        remove_file(run.record, run.target / source.dataset_id, LOSSES_NAME, tally)
        return False
    for task in _pending(run, source.dataset_id, [source.text(LOSSES_NAME, text)], tally, losses):
        _take(run, tally, losses, task, run.copier().bring(task))
    return True


def _pending(
    run: _Run,
    dataset_id: str,
    files: Iterable[SourceFile],
    tally: Tally,
    losses: DatasetLosses,
    *,
    kept: Callable[[int], None] = lambda _: None,
) -> Iterator[Task]:
    """The files that must be looked after; those that are current are counted."""
    for task in _tasks(run, dataset_id, files, leave_out=tally.fail):
        entry = current_entry(task.found, task.entries, task.source) if task.found is not None else None
        if entry is None:
            yield task
            continue
        losses.add(task.source, entry.losses)
        tally.kept += 1
        kept(1)


def _bring(tasks: Iterator[Task], copier: Copier) -> Generator[tuple[Task, Outcome], None, None]:
    """Let threads bring the files. Closed early, it ends them."""
    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="sync")
    waiting: deque[tuple[Task, Future[Outcome]]] = deque()
    try:
        for task in tasks:
            waiting.append((task, pool.submit(copier.bring, task)))
            if len(waiting) >= THREADS * AHEAD:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    finally:
        _end(copier, pool, [future for _, future in waiting])


def _end(copier: Copier, pool: ThreadPoolExecutor, waiting: Sequence[Future[Outcome]]) -> None:
    copier.stopping.set()
    pool.shutdown(wait=False, cancel_futures=True)
    concurrent.futures.wait(waiting, timeout=END_SECONDS)


def _take(run: _Run, tally: Tally, losses: DatasetLosses, task: Task, outcome: Outcome) -> None:
    """Note what became of a file; give one that was copied its final name."""
    name = task.source.path
    known = next((entry.losses for entry in task.entries if entry.version == task.source.version), "")
    losses.add(task.source, outcome.entry.losses if outcome.entry is not None else known)
    if outcome.result is Result.FAILED:
        tally.fail(name, outcome.reason)
    elif outcome.entry is None:
        tally.changed.append(name)
    elif outcome.temporary is None:
        run.record.add(tally.dataset_id, name, outcome.entry)
        run.record.keep_only(tally.dataset_id, name, outcome.entry)
        tally.kept += 1
    else:
        _put_in_place(run, tally, task, outcome.entry, outcome.temporary)


def _put_in_place(run: _Run, tally: Tally, task: Task, entry: Entry, temporary: Path) -> None:
    name = task.source.path
    try:
        if not run.overwrite and _state(look_at(task.path)) != _state(task.found):
            # Somebody wrote it while its copy was on its way.
            temporary.unlink()
            tally.changed.append(name)
            return
        run.record.add(tally.dataset_id, name, entry)
        temporary.replace(task.path)
    except OSError as error:
        if is_disk_full(error):
            raise disk_full(task.path) from error
        tally.fail(name, error.strerror or str(error))
        return
    if task.entries:
        run.record.keep_only(tally.dataset_id, name, entry)
    tally.copied += 1
    tally.copied_bytes += entry.byte_count
    run.copied(entry.byte_count)


def _state(found: os.stat_result | None) -> tuple[int, int, int] | None:
    return (found.st_ino, found.st_size, found.st_mtime_ns) if found else None


def _remove_gone_datasets(run: _Run) -> Iterator[DatasetSummary]:
    """Remove what is left of datasets that came from this catalog and that it no longer has."""
    known = run.library.mirror.table.rows
    for dataset_id in run.record.datasets(run.catalog):
        if dataset_id not in known:
            tally = Tally(dataset_id)
            remove_gone_dataset(run.record, run.target / dataset_id, tally)
            yield tally.summary()


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Put into words that a folder cannot be used."""
    try:
        yield
    except OSError as error:
        raise SyncError(f"{folder} cannot be used ({error.strerror}); choose another folder.") from error
