"""Convert annotation files between the house format and those of tools: whole folders, or single files.

This module goes through the files and counts. `imgsyncfs.tools.convert.reconciliation` brings together what the
annotation files of one image say, `imgsyncfs.tools.convert.writing` puts the result in its place, and
`imgsyncfs.tools.convert.conversion` converts one annotation without any file.

Memory does not grow with the number of files: the names of a folder wait in a temporary file, since a folder must not
be listed while it changes, and results are counted, with a few files named.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from imgsyncfs.errors import AnnotationError, ConvertError, printable
from imgsyncfs.formats.registry import HOUSE, Change, Loss
from imgsyncfs.formats.remarks import unseen_labels
from imgsyncfs.pictures.images import IMAGE_EXTENSIONS
from imgsyncfs.stores.local import sync_folder
from imgsyncfs.tools.convert.from_layout import check_output, convert_contents, tool_layout
from imgsyncfs.tools.convert.reconciliation import AnnotationPaths, FileUnusable, is_file, reconcile
from imgsyncfs.tools.convert.to_layout import (
    DOCUMENT_NAMES,
    LAYOUT_FORMATS,
    convert_to_layout,
    places_for,
    target_name,
)
from imgsyncfs.tools.convert.writing import locked, remove_leftovers, write_in_place, write_to_folder
from imgsyncfs.tools.layouts.contract import FolderContents
from imgsyncfs.tools.pairing import ANNOTATION_SUFFIXES, ORIGINALS_FOLDER, LeftOut, annotation_suffix
from imgsyncfs.tools.tally import KindCount, KindTally, described
from imgsyncfs.workers.progress import Progress, SilentProgress

NAMED_FILES = 5
"""How many files are named of each note."""

NAMED_LEFT_OUT = 1000
"""How many of the files that could not be converted are named; the others are counted."""


_REMOVED = (
    f"the file of labelme's was removed, so none is made from its original in {ORIGINALS_FOLDER}; "
    "move that back if it was a mistake, or remove it"
)
_CAPITALS = "ends in capitals, and its conversion would stand beside it under the same name; rename it to small letters"
_OUTDATED = "it says something else than the .json of this name, which is newer, and is left as it is"


@dataclass(frozen=True)
class ConvertNote:
    """A remark about some files.

    Attributes:
        reason: the remark.
        file_count: the number of files that it applies to.
        files: the first few of these files.
    """

    reason: str
    file_count: int = 0
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class ConvertSummary:
    """The result of a conversion.

    Attributes:
        to: the name of the format.
        converted: the number of images whose annotations were converted.
        already: the number of images whose annotations were in that format already.
        losses: what the new files do not show.
        changes: what is no longer of the kind that it was, and labels that no trainer sees.
        notes: remarks about files.
        left_out: files that could not be converted, at most `NAMED_LEFT_OUT`.
        left_out_count: the number of all files that could not be converted.
    """

    to: str
    converted: int
    already: int
    losses: tuple[KindCount, ...]
    changes: tuple[KindCount, ...]
    notes: tuple[ConvertNote, ...]
    left_out: tuple[LeftOut, ...]
    left_out_count: int


def convert_paths(
    paths: Sequence[Path],
    *,
    to: str,
    output: Path | None = None,
    layout: str | None = None,
    classes: Sequence[str] = (),
    strict: bool = False,
    progress: Progress | None = None,
) -> ConvertSummary:
    """Convert files and folders.

    To labelme's format in place, a house annotation moves into ``ImageSynchronizer_annotation`` and the file of
    labelme's takes its name; to the house format, it comes back, with the edits made in labelme. roLabelImg's files
    stand beside, as ``x.xml``. YOLO's labels, and documents about all images of a folder, are made of whole folders
    (`imgsyncfs.tools.convert.to_layout`). Stopped at any moment, nothing is lost or half written; the next run
    finishes.

    Args:
        paths: folders, whose sub-folders are not searched; annotation files, or images with annotations beside them.
            All annotation files of one image count as one.
        to: a name of `imgsyncfs.formats.registry.CONVERTIBLE` or `LAYOUT_FORMATS`, for example imagesynchronizer,
            labelme, rolabelimg, yolo; or labelme_json, rolabelimg_xml, rolabelme_xml.
        output: a folder for the new files; the source is then only read. Of several folders, each gets one of its
            name in there. None: in place.
        layout: of the folders, a key of `imgsyncfs.tools.layouts.registry.LAYOUTS`, on the way to the house format;
            None to recognize it, for each folder.
        classes: the first ones for formats that number them, in their order; others follow by name.
        strict: leave out files in which something is no longer of the kind that it was, or a label is one that no
            trainer sees.
        progress: is notified of the progress.

    Returns:
        The result. Files that cannot be read or would be lost are left as they are, and named.

    Raises:
        FormatError: there is no such format.
        LayoutError: a folder is not in this layout, may be in several, or contradicts itself.
        ConvertError: a path is missing, or is a file where a folder is needed; classes are given to a format that does
            not number them; a layout is named on the way to a tool's format, or for a file; or a folder cannot be
            written. In the last case, all before it is done; else nothing.
    """
    target = target_name(to, classes)
    tasks = _plan(paths, output, to=target, layout=layout)
    if target in LAYOUT_FORMATS and any(task.stems is not None for task in tasks):
        raise ConvertError(f"Files for {target} are about all images of a folder; name the folder, and no files in it.")
    tally = _Tally(target, strict=strict)
    for task in tasks:
        try:
            if target in LAYOUT_FORMATS:
                _convert_to_layout(task, tally, classes, progress or SilentProgress())
            elif task.contents is not None:
                _convert_layout(task, tally, progress or SilentProgress())
            else:
                _convert_task(task, tally, progress or SilentProgress())
        except OSError as error:
            name = printable(str(error.filename or task.written_folder))
            reason = f"{name} cannot be read or written ({error.strerror}); see to it"
            raise ConvertError(f"{reason} and run the same again, which goes on where this stopped.") from error
    return tally.summary()


@dataclass
class _Tally:
    """Counts results while a conversion runs; see `ConvertSummary`."""

    to: str
    strict: bool = False
    converted: int = 0
    already: int = 0
    losses: KindTally = field(default_factory=KindTally)
    changes: KindTally = field(default_factory=KindTally)
    notes: dict[str, ConvertNote] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)
    left_out_count: int = 0

    def done(self, path: Path, losses: Iterable[Loss] | None, changes: Iterable[Change], *, count: int = 1) -> None:
        """Count annotations by what their new file does not show, None if there was nothing to do; and its changes."""
        if losses is None:
            self.already += count
            return
        self.converted += count
        self.losses.add(printable(path.name), losses)
        self.changes.add(printable(path.name), changes)

    def note(self, path: Path, reason: str) -> None:
        """Count a file that a remark applies to."""
        before = self.notes.get(reason, ConvertNote(reason))
        files = (*before.files, printable(path.name))[:NAMED_FILES]
        self.notes[reason] = ConvertNote(reason, before.file_count + 1, files)

    def leave_out(self, path: Path, reason: str) -> None:
        """Count a file that could not be converted, and why."""
        self.left_out_count += 1
        if len(self.left_out) < NAMED_LEFT_OUT:
            self.left_out.append(LeftOut(printable(str(path)), reason))

    def summary(self) -> ConvertSummary:
        """Give the counts so far."""
        return ConvertSummary(
            to=self.to,
            converted=self.converted,
            already=self.already,
            losses=self.losses.counts(),
            changes=self.changes.counts(),
            notes=tuple(self.notes.values()),
            left_out=tuple(self.left_out),
            left_out_count=self.left_out_count,
        )


@dataclass(frozen=True)
class _Task:
    """One folder's work.

    Attributes:
        folder: where the annotations are.
        stems: which ones; None for all.
        output: where the new files go; None for the same folder.
        contents: what the folder holds, if it is in a tool's own layout.
    """

    folder: Path
    stems: tuple[str, ...] | None
    output: Path | None
    contents: FolderContents | None = None

    @property
    def written_folder(self) -> Path:
        return self.folder if self.output is None else self.output


def _plan(paths: Sequence[Path], output: Path | None, *, to: str, layout: str | None) -> list[_Task]:
    """Say what is to be done, after checking that it can be."""
    folders: dict[Path, None] = {}
    files: dict[Path, dict[str, None]] = {}
    for path in paths:
        if path.is_dir():
            if path.resolve().name == ORIGINALS_FOLDER:
                raise ConvertError(f"{path} keeps the originals of the folder above it; convert that folder.")
            folders[path] = None
        elif path.exists():
            files.setdefault(path.parent, {})[_stem_of(path)] = None
        else:
            raise ConvertError(f"There is no {path} to convert; check the path.")
    if layout is not None and (to != HOUSE or files):
        raise ConvertError(
            f"The layout {layout!r} can be named for folders that are converted to {HOUSE} alone; convert to that "
            "first, and then on."
        )
    tasks = []
    for folder in folders:
        own = output / folder.resolve().name if output is not None and len(folders) > 1 else output
        contents = tool_layout(folder, layout=layout) if to == HOUSE else None
        if contents is not None:
            check_output(folder, contents, own)
        tasks.append(_Task(folder, None, own, contents))
    tasks += [_Task(folder, tuple(stems), output) for folder, stems in files.items()]
    outputs = Counter(task.output for task in tasks if task.stems is None and task.output is not None)
    for task in tasks:
        if task.output is not None and outputs[task.output] > 1:
            raise ConvertError(f"Several folders would be written to {task.output}; convert them one by one.")
        _check_writable(task)
    return tasks


def _stem_of(path: Path) -> str:
    suffix = annotation_suffix(path.name)
    if suffix:
        if not path.name.endswith(suffix):
            raise ConvertError(f"{path} {_CAPITALS}.")
        return path.name.removesuffix(suffix)
    if path.suffix.removeprefix(".").lower() in IMAGE_EXTENSIONS:
        return path.stem
    endings = ", ".join(ANNOTATION_SUFFIXES)
    raise ConvertError(f"{path} is neither an annotation ({endings}) nor an image; name one of these, or a folder.")


def _check_writable(task: _Task) -> None:
    if task.output is None:
        if (task.folder / ORIGINALS_FOLDER).is_symlink():
            raise ConvertError(
                f"{task.folder / ORIGINALS_FOLDER} is a link, and files would move in and out of where it leads; put a "
                "folder in its place, or choose another folder for the new files.",
                option="output",
            )
        if not os.access(task.folder, os.W_OK | os.X_OK):
            raise ConvertError(
                f"{task.folder} cannot be written: it is read-only, as all mounts are, or its rights forbid it; "
                "choose another folder for the new files.",
                option="output",
            )
        return
    try:
        task.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConvertError(f"{task.output} cannot be made ({error.strerror}); choose another folder.") from error
    if task.output.samefile(task.folder):
        raise ConvertError(f"{task.output} is where the annotations are; name no folder to convert them in place.")


def _convert_task(task: _Task, tally: _Tally, progress: Progress) -> None:
    dataset = task.folder.resolve().name
    with locked(task.written_folder), tempfile.TemporaryFile() as names:
        _tidy(task)
        if task.stems is None:
            count = _write_names(_leading_stems(task.folder, tally), names)
            if not count and not tally.left_out_count and not (task.folder / ORIGINALS_FOLDER).is_dir():
                tally.leave_out(task.folder, "no annotations are in it; sub-folders are not searched, name them")
        else:
            count = _write_names(task.stems, names)
        progress.phase(f"Converting {printable(dataset)}", count, "annotations")
        for stem in _read_names(names):
            _convert_image(task, AnnotationPaths(task.folder, stem), dataset, tally)
            progress.advance(1)
        if task.stems is None:
            _note_removed(task.folder, tally)
        _finish(task, tally)


def _convert_layout(task: _Task, tally: _Tally, progress: Progress) -> None:
    """Convert a folder in a tool's own layout to the house format."""
    contents = task.contents
    if contents is None:
        return
    dataset = task.folder.resolve().name
    with locked(task.written_folder):
        remove_leftovers(task.written_folder)
        for note in contents.notes:
            tally.note(task.folder, note)
        for entry in contents.left_out:
            tally.leave_out(task.folder / entry.path, entry.reason)
        progress.phase(f"Converting {printable(dataset)}", len(contents.images), "annotations")
        outcomes = convert_contents(task.folder, contents, task.output, dataset=dataset, strict=tally.strict)
        for outcome in outcomes:
            progress.advance(1)
            if outcome.fault:
                tally.leave_out(outcome.path, outcome.fault)
            else:
                tally.done(outcome.path, () if outcome.is_new else None, outcome.changes)
        sync_folder(task.written_folder)


def _convert_to_layout(task: _Task, tally: _Tally, classes: Sequence[str], progress: Progress) -> None:
    """Convert a folder to a tool's own layout."""
    places = places_for(tally.to, task.folder, task.output)
    written = {places.top, places.labels}
    with contextlib.ExitStack() as held:
        for folder in sorted(written):
            folder.mkdir(exist_ok=True)
            held.enter_context(locked(folder))
            remove_leftovers(folder)
        stems = _leading_stems(task.folder, tally)
        outcomes = convert_to_layout(tally.to, places, stems, classes=classes, strict=tally.strict, progress=progress)
        for outcome in outcomes:
            if outcome.fault:
                tally.leave_out(outcome.path, outcome.fault)
            elif outcome.note:
                tally.note(outcome.path, outcome.note)
            else:
                tally.done(outcome.path, outcome.losses, outcome.changes, count=outcome.images)
        _note_removed(task.folder, tally)
        for folder in written:
            sync_folder(folder)


def _convert_image(task: _Task, paths: AnnotationPaths, dataset: str, tally: _Tally) -> None:
    try:
        found = reconcile(paths, dataset=dataset, target=tally.to)
        if found is None:
            if paths.original.exists():
                tally.note(paths.json, _REMOVED)
            else:
                tally.leave_out(paths.json, "there is no such annotation; name those that are to be converted")
            return
        unseen = unseen_labels(found.annotation.labels) if tally.to == HOUSE else ()
        changes = (*found.changes, *unseen)
        if tally.strict:
            _refuse(found.source, changes)
        if task.output is None:
            losses = write_in_place(found, tally.to)
        else:
            losses = write_to_folder(found, tally.to, task.output)
    except FileUnusable as error:
        tally.leave_out(error.path, error.reason)
        return
    except AnnotationError as error:
        tally.leave_out(paths.json, str(error))
        return
    for suffix in found.outdated:
        if not found.outdated[suffix]:
            tally.note(paths.sibling(suffix), _OUTDATED)
    tally.done(paths.json, losses, changes)


def _refuse(path: Path, changes: Iterable[Change]) -> None:
    harmful = [change for change in changes if not change.is_harmless]
    if harmful:
        raise FileUnusable(path, f"{described(harmful)}; a strict conversion takes no such labels")


def _leading_stems(folder: Path, tally: _Tally) -> Iterator[str]:
    """The stem of each image's annotations, once; hidden files are not looked at."""
    with os.scandir(folder) as entries:
        for entry in entries:
            suffix = annotation_suffix(entry.name)
            if not suffix or entry.name.startswith(".") or entry.name in DOCUMENT_NAMES or not entry.is_file():
                continue
            if not entry.name.endswith(suffix):
                tally.leave_out(folder / entry.name, f"it {_CAPITALS}")
                continue
            stem = entry.name.removesuffix(suffix)
            before = ANNOTATION_SUFFIXES[: ANNOTATION_SUFFIXES.index(suffix)]
            if not any(is_file(folder / f"{stem}{other}") for other in before):
                yield stem


def _write_names(stems: Iterable[str], names: IO[bytes]) -> int:
    count = 0
    for stem in stems:
        # A name may hold a line break, but no slash.
        names.write(os.fsencode(stem).replace(b"\n", b"/") + b"\n")
        count += 1
    return count


def _read_names(names: IO[bytes]) -> Iterator[str]:
    names.seek(0)
    for line in names:
        yield os.fsdecode(line[:-1].replace(b"/", b"\n"))


def _tidy(task: _Task) -> None:
    remove_leftovers(task.written_folder)
    originals = task.folder / ORIGINALS_FOLDER
    if task.output is None and originals.is_dir():
        remove_leftovers(originals)


def _finish(task: _Task, tally: _Tally) -> None:
    """Bring the names to the disk, and remove the folder of the originals if none is left in it."""
    originals = task.folder / ORIGINALS_FOLDER
    if task.output is None and originals.is_dir():
        sync_folder(originals)
        if tally.to == HOUSE:
            with contextlib.suppress(OSError):  # something is still in it
                originals.rmdir()
    sync_folder(task.written_folder)


def _note_removed(folder: Path, tally: _Tally) -> None:
    """Name the originals whose file of labelme's is gone, and that no other annotation file stands for."""
    originals = folder / ORIGINALS_FOLDER
    if not originals.is_dir():
        return
    with os.scandir(originals) as entries:
        for entry in entries:
            stem = entry.name.removesuffix(".json")
            if stem != entry.name and not any(is_file(folder / f"{stem}{suffix}") for suffix in ANNOTATION_SUFFIXES):
                tally.note(folder / entry.name, _REMOVED)
