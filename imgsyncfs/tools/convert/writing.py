"""Write one image's annotation in another format, in place or into another folder, in steps that may stop anywhere.

In place, house format to labelme's: the house file gets a second name in ``ImageSynchronizer_annotation``; then the
file of labelme's takes its first name. Back: if the file of labelme's was edited, the edited annotation takes the
original's place in ``ImageSynchronizer_annotation``; then that takes the first name again. Stopped between two steps,
`imgsyncfs.tools.convert.reconciliation` reads the same annotation as before the first, and the same steps finish what
is begun.

No reader sees half a file: a new content is written under a temporary name in the same folder, brought to the disk, and
renamed. Names are brought to the disk once a folder (`imgsyncfs.stores.local.sync_folder`), which halves the
time: file systems with a journal keep the order in which names were given, and only the order matters until the end.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path, PurePath

from imgsyncfs.annotations.house_format import dump_annotation
from imgsyncfs.errors import AnnotationError, ConvertError
from imgsyncfs.formats.registry import CONVERTIBLE, HOUSE, HOUSE_SUFFIX, Loss
from imgsyncfs.tools.convert.conversion import image_path, is_as_rendered, recognize, with_image_path
from imgsyncfs.tools.convert.reconciliation import (
    FileUnusable,
    ReconciledAnnotation,
    embeds_the_only_image,
    find_image,
)

logger = logging.getLogger(__name__)

TEMPORARY_PREFIX = ".imgsyncfs-convert-"
"""Of temporary names; the next conversion removes what a killed process left."""

_NO_HARD_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
"""What file systems without hard links (exFAT, some network disks) answer, and what one answers at its limit."""


def write_in_place(found: ReconciledAnnotation, target: str) -> tuple[Loss, ...] | None:
    """Convert one image's annotation where it stands.

    Args:
        found: what is there.
        target: a key of `imgsyncfs.formats.registry.CONVERTIBLE`.

    Returns:
        What the new file does not show; None if there was nothing to do.

    Raises:
        FileUnusable: something would be lost.
        AnnotationError: the annotation holds what cannot be written at all.
        OSError: the disk is full, or cannot be written.
    """
    if found.paths.json.is_symlink():
        raise FileUnusable(found.paths.json, "it is a symbolic link; convert the file that it leads to")
    if target == HOUSE:
        return () if _to_house(found) else None
    if _takes_house_name(target):
        return _to_house_name(found, target)
    return _to_sibling(found, target)


def write_to_folder(found: ReconciledAnnotation, target: str, folder: Path) -> tuple[Loss, ...] | None:
    """Write one image's annotation into another folder, under the name that it would have in place.

    Returns:
        As `write_in_place`; None if the folder had it.

    Raises:
        FileUnusable: there is a file of this name that says something else, and is no mere rendering.
        AnnotationError: as for `write_in_place`.
        OSError: likewise.
    """
    image, annotation = found.image, found.annotation
    image = replace(image, path=_path_from(folder, found))
    if image_path(annotation):
        annotation = with_image_path(annotation, image.path)
    rendered = CONVERTIBLE[target].render(annotation, image)
    content = found.house_content if target == HOUSE and found.house_content else rendered.content
    path = folder / f"{found.paths.stem}{_suffix_in_place(target)}"
    if path.exists():
        before = path.read_bytes()
        if before == content or _says(before, path.name, target, found):
            return None
        if not _may_be_replaced(before, path.name, target):
            raise FileUnusable(
                path, "it was edited, or comes from elsewhere; remove it, or choose another folder for the new files"
            )
    replace_file(path, content)
    return rendered.losses


def _path_from(folder: Path, found: ReconciledAnnotation) -> str:
    """Where an image lies from a folder on: labelme opens it from there. Empty if it is in no place that is known."""
    beside = find_image(found.paths, found.image.ext)
    if beside is None and not found.image.path:
        return ""
    path = beside if beside is not None else found.paths.folder / found.image.path
    return PurePath(os.path.relpath(path.resolve(), folder.resolve())).as_posix()


def _to_house(found: ReconciledAnnotation) -> bool:
    paths = found.paths
    if found.json_format == HOUSE:
        if found.has_original:
            # The same file: a conversion to labelme's format was stopped before its second step.
            paths.original.unlink()
        if found.house_content is not None:
            return False
    _check_embedded_image(found, "the house format")
    if found.json_format not in (None, HOUSE) and found.has_original:
        if found.house_content is None:
            replace_file(paths.original, dump_annotation(found.annotation))
        paths.original.replace(paths.json)
    else:
        annotation = found.annotation
        if found.image.path:
            annotation = with_image_path(annotation, found.image.path)
        replace_file(paths.json, dump_annotation(annotation))
    return True


def _to_house_name(found: ReconciledAnnotation, target: str) -> tuple[Loss, ...] | None:
    paths = found.paths
    if found.json_format == target and found.source == paths.json:
        return None
    _check_embedded_image(found, f"a file that is rendered for {CONVERTIBLE[target].shown_title}")
    rendered = CONVERTIBLE[target].render(found.annotation, found.image)
    if found.json_format == HOUSE and not found.has_original:
        paths.original.parent.mkdir(exist_ok=True)
        keep_copy(paths.json, paths.original)
    replace_file(paths.json, rendered.content)
    return rendered.losses


def _to_sibling(found: ReconciledAnnotation, target: str) -> tuple[Loss, ...] | None:
    suffix = CONVERTIBLE[target].suffix
    path = found.paths.sibling(suffix)
    if path.exists() and not CONVERTIBLE[target].is_readable:
        _check_unreadable(found, target, path)
        return None
    if path.exists() and suffix not in found.outdated:
        return None
    if not found.outdated.get(suffix, True):
        reason = f"it was edited, and {found.source.name}, which is newer, says something else; remove one of the two"
        raise FileUnusable(path, reason)
    rendered = CONVERTIBLE[target].render(found.annotation, found.image)
    replace_file(path, rendered.content)
    return rendered.losses


def _check_embedded_image(found: ReconciledAnnotation, other: str) -> None:
    """Refuse to replace a file by another that has no place for the only copy of its image."""
    if found.json_format is not None and embeds_the_only_image(found.paths, found.json_format):
        reason = f"its image is nowhere but in its imageData, which {other} has no place for; save it beside"
        raise FileUnusable(found.paths.json, reason)


def _takes_house_name(target: str) -> bool:
    """Whether its tool looks for ``x.json``; what cannot be read back must not stand where the annotation was."""
    return CONVERTIBLE[target].is_readable and CONVERTIBLE[target].view_suffix == HOUSE_SUFFIX


def _check_unreadable(found: ReconciledAnnotation, target: str, path: Path) -> None:
    """Leave a file that cannot be read back as it is: it may be a rendering that is out of date, or somebody's work."""
    if path.read_bytes() != CONVERTIBLE[target].render(found.annotation, found.image).content:
        raise FileUnusable(path, "it says something else, and cannot be read back; remove it to have it made anew")


def _suffix_in_place(target: str) -> str:
    """What follows the stem: labelme looks for its files under the names that house annotations have."""
    return HOUSE_SUFFIX if _takes_house_name(target) else CONVERTIBLE[target].suffix


def _says(content: bytes, file_name: str, target: str, found: ReconciledAnnotation) -> bool:
    try:
        return (
            recognize(content, file_name=file_name) == target and CONVERTIBLE[target].parse(content) == found.annotation
        )
    except AnnotationError:
        return False


def _may_be_replaced(content: bytes, file_name: str, target: str) -> bool:
    try:
        is_target = target != HOUSE and recognize(content, file_name=file_name) == target
        return is_target and is_as_rendered(target, content)
    except AnnotationError:
        return False


def replace_file(path: Path, content: bytes) -> None:
    """Give a file a new content, all of it at once, whether or not there was one.

    Raises:
        OSError: it cannot be written; then it is as before.
    """
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def keep_copy(path: Path, copy: Path, *, link: Callable[[Path, Path], None] = os.link) -> None:
    """Keep a copy of a file, so that the file may get another content.

    Args:
        path: its path.
        copy: the path of the copy, on the same disk; nothing is there yet.
        link: makes a hard link to the first path at the second.

    Raises:
        OSError: the copy cannot be made; then nothing has changed.
    """
    try:
        # The file itself, with its times and rights.
        link(path, copy)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        replace_file(copy, path.read_bytes())


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of processes that were killed. Call while holding `locked`."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(TEMPORARY_PREFIX):
                logger.info("Removing %s, which an interrupted conversion left", entry.path)
                Path(entry.path).unlink(missing_ok=True)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other conversions out of a folder while the block runs; the lock ends with the process, however it ends.

    Raises:
        ConvertError: another one is at work in it.
        OSError: the folder cannot be opened.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConvertError(f"Another conversion is at work in {folder}; wait until it has ended.") from None
        except OSError as error:
            # Network disks do not lock folders. What is in place is still never half a file.
            logger.info("%s cannot be locked (%s)", folder, error.strerror)
        yield
    finally:
        os.close(descriptor)
