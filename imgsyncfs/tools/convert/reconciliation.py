"""Reconcile the annotation files of one image: read what they say together, and decide where they differ.

``x.json`` is a house annotation or a file of labelme's. In the latter case
``ImageSynchronizer_annotation/x.json`` may hold the house annotation that it was made from. ``x.labelme.json`` and
``x.xml`` are its siblings. What counts:

- A file of labelme's is an edit of the original: what a tool dropped when it saved is taken from there.
- A sibling that says the same, or was rendered and left alone since, says nothing new.
- One that a tool saved later than ``x.json`` is an edit, and wins; likewise one whose ``x.json`` is of labelme's and
  was left alone. If that was edited as well, nobody knows: the files are left as they are, and named.
- One that a tool saved earlier than ``x.json`` does not count, and is named.
- Where only siblings are, the first one, ``x.labelme.json``, takes the place of ``x.json``.
"""

from __future__ import annotations

import errno
import logging
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any, TypeAlias

from imgsyncfs.errors import AnnotationError, ConvertError, PublishError
from imgsyncfs.formats.registry import CONVERTIBLE, HOUSE, HOUSE_SUFFIX, READABLE, Change, ImageInfo, Reading
from imgsyncfs.pictures.images import HEADER_BYTES, IMAGE_EXTENSIONS, ImageFacts, read_image_header
from imgsyncfs.tools.convert.conversion import (
    completed,
    image_path,
    is_as_rendered,
    read_edited,
    recognize,
    with_missing_sizes,
)
from imgsyncfs.tools.pairing import ORIGINALS_FOLDER, image_names

if TYPE_CHECKING:
    from collections.abc import Callable

    from imgsyncfs.annotations.house_format import Annotation

logger = logging.getLogger(__name__)

SIBLINGS = {format_.suffix: name for name, format_ in READABLE.items()}
"""What a sibling's name ends in, and the format that it must be of, in the order in which they are believed."""

FindImage: TypeAlias = "Callable[[Annotation, bytes, str], ImageInfo]"
"""Describes the image of an annotation, given the file that it was read from and the name of its format."""

_DEFAULT_EXTENSION = "jpg"


class FileUnusable(ConvertError):
    """A file that stands in the way of converting an image's annotations.

    Attributes:
        path: which one.
        reason: why, and what to do about it.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


@dataclass(frozen=True)
class AnnotationPaths:
    """Where the annotations of one image stand.

    Attributes:
        folder: the image's.
        stem: the image's name without its extension.
    """

    folder: Path
    stem: str

    @property
    def json(self) -> Path:
        """The house annotation, or the file of labelme's that has its name."""
        return self.folder / f"{self.stem}.json"

    @property
    def original(self) -> Path:
        """The house annotation while a file of labelme's has its name."""
        return self.folder / ORIGINALS_FOLDER / f"{self.stem}.json"

    def sibling(self, suffix: str) -> Path:
        """The file beside the image in another format."""
        return self.folder / f"{self.stem}{suffix}"


@dataclass(frozen=True)
class ReconciledAnnotation:
    """What the annotation files of one image say together.

    Attributes:
        paths: where they stand.
        image: the image, whether or not it is there; with the sizes that the annotation does not say.
        annotation: what they say.
        source: the file that this was read from.
        json_format: the format of ``x.json``; None if there is none.
        modified_ns: when `annotation` was last written, Unix nanoseconds.
        has_original: whether a house annotation is kept in the folder of originals.
        house_content: the bytes of the house annotation that says the same as `annotation`, None if there is none.
        is_edited: whether `annotation` holds an edit that no house annotation holds yet.
        changes: what is no longer of the kind that it was.
        outdated: siblings, by their suffix, that say something else and do not count; the value tells whether
            nothing is lost with them, since they are renderings.
    """

    paths: AnnotationPaths
    image: ImageInfo
    annotation: Annotation
    source: Path
    json_format: str | None
    modified_ns: int
    has_original: bool = False
    house_content: bytes | None = None
    is_edited: bool = False
    changes: tuple[Change, ...] = ()
    outdated: dict[str, bool] = field(default_factory=dict)


def reconcile(paths: AnnotationPaths, *, dataset: str, target: str = HOUSE) -> ReconciledAnnotation | None:
    """Read the annotation files of one image, and bring together what they say.

    Args:
        paths: where they stand.
        dataset: what the folder is called in rendered files.
        target: the format that they will be converted to; decides what has to be known of the image.

    Returns:
        What they say together; None if ``x.json`` was removed though an original is kept for it, and if there is no
        file at all.

    Raises:
        FileUnusable: one of them is damaged, of another format than its name says, or cannot be read; or they
            contradict each other.
    """
    needs_orientation = CONVERTIBLE[target].is_in_stored_pixels or any(
        known.is_in_stored_pixels and is_file(paths.sibling(known.suffix)) for known in READABLE.values()
    )
    find = partial(_image_of, paths, dataset, needs_orientation=needs_orientation)
    current = _read_json(paths, find)
    if current is None and paths.original.exists():
        return None
    for suffix, name in SIBLINGS.items():
        path = paths.sibling(suffix)
        content = _read(path)
        if content is None:
            continue
        current = (
            _from_sibling(paths, path, content, name, find)
            if current is None
            else _with_sibling(current, suffix, content)
        )
    return current


def embeds_the_only_image(paths: AnnotationPaths, name: str) -> bool:
    """Tell whether ``x.json``, of format `name`, embeds an image that is nowhere else."""
    reference = CONVERTIBLE[name].image_reference(_read(paths.json) or b"")
    if reference.embedded_content is None:
        return False
    named = [
        paths.folder / place
        for path in reference.opened_paths
        for place in (path.replace("\\", "/"), PureWindowsPath(path).name)
    ]
    return not any(map(is_file, named)) and find_image(paths, None) is None


def find_image(paths: AnnotationPaths, likely: str | None) -> Path | None:
    """Find the image beside annotations; None if there is none. See `imgsyncfs.tools.pairing.image_names`."""
    if likely and likely.lower() not in IMAGE_EXTENSIONS:
        likely = None
    return next(filter(is_file, (paths.folder / name for name in image_names(paths.stem, likely))), None)


def is_file(path: Path) -> bool:
    """Tell whether a file is there; where a name is too long, none is."""
    try:
        return path.is_file()
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return False


def _read_json(paths: AnnotationPaths, find: FindImage) -> ReconciledAnnotation | None:
    content, original = _read(paths.json), _read(paths.original)
    if content is None:
        return None
    name = _recognized(paths.json, content)
    known = CONVERTIBLE[name]
    if known.view_suffix != HOUSE_SUFFIX:
        raise FileUnusable(
            paths.json, f"it is a file of {known.shown_title}'s, whose names end in {known.suffix}; rename it"
        )
    image = find(_parse(paths.json, content, name).annotation, content, name)
    reading = _parse(paths.json, content, name, image)
    if name == HOUSE:
        if original not in (None, content):
            reason = f"{ORIGINALS_FOLDER}/{paths.json.name} is another original of it; remove one of the two"
            raise FileUnusable(paths.json, reason)
        return _reconciled(
            paths, image, reading, paths.json, name, house_content=content, has_original=original is not None
        )
    if original is None:
        edited = not is_as_rendered(name, content)
        return _completed(_reconciled(paths, image, reading, paths.json, name, is_edited=edited))
    before = _parse(paths.original, original, HOUSE)
    image = find(before.annotation, content, name)
    found = _reconciled(paths, image, before, paths.original, HOUSE, has_original=True)
    found = replace(found, json_format=name, source=paths.json)
    reading = read_edited(CONVERTIBLE[name], content, before.annotation, image)
    if reading.annotation == before.annotation:
        return replace(found, house_content=original)
    return replace(
        found,
        annotation=reading.annotation,
        changes=reading.changes,
        is_edited=True,
        modified_ns=paths.json.stat().st_mtime_ns,
    )


def _from_sibling(
    paths: AnnotationPaths, path: Path, content: bytes, name: str, find: FindImage
) -> ReconciledAnnotation:
    image = find(_parse(path, content, name).annotation, content, name)
    reading = _parse(path, content, name, image)
    found = _reconciled(paths, image, reading, path, name, is_edited=not is_as_rendered(name, content))
    return replace(_completed(found), json_format=None)


def _with_sibling(current: ReconciledAnnotation, suffix: str, content: bytes) -> ReconciledAnnotation:
    name, path = SIBLINGS[suffix], current.paths.sibling(suffix)
    if content == CONVERTIBLE[name].render(current.annotation, current.image).content:
        return current
    _parse(path, content, name)
    reading = read_edited(CONVERTIBLE[name], content, current.annotation, current.image)
    said = reading.annotation
    # Whoever edits in a tool that has no mark for "checked" has looked: such a file takes back nothing.
    checked = max(said.label_checked, current.annotation.label_checked)
    if replace(said, label_checked=checked) == current.annotation:
        return current
    if is_as_rendered(name, content):
        return replace(current, outdated={**current.outdated, suffix: True})
    modified_ns = path.stat().st_mtime_ns
    if modified_ns < current.modified_ns:
        return replace(current, outdated={**current.outdated, suffix: False})
    if current.is_edited:
        reason = f"it was edited, and so was {current.source.name}, which says something else; remove one of the two"
        raise FileUnusable(path, reason)
    return replace(
        current,
        annotation=said,
        changes=reading.changes,
        source=path,
        house_content=None,
        is_edited=True,
        modified_ns=modified_ns,
    )


def _reconciled(
    paths: AnnotationPaths, image: ImageInfo, reading: Reading, source: Path, name: str, **others: Any
) -> ReconciledAnnotation:
    return ReconciledAnnotation(
        paths,
        image,
        reading.annotation,
        source,
        name,
        source.stat().st_mtime_ns,
        changes=reading.changes,
        **others,
    )


def _completed(found: ReconciledAnnotation) -> ReconciledAnnotation:
    return replace(found, annotation=completed(found.annotation, found.image))


def _image_of(
    paths: AnnotationPaths, dataset: str, annotation: Annotation, content: bytes, name: str, *, needs_orientation: bool
) -> ImageInfo:
    """The image beside an annotation file, else the one that it names elsewhere."""
    path = find_image(paths, annotation.ext)
    if path is None:
        reference = CONVERTIBLE[name].image_reference(content).image
        elsewhere = image_path(annotation) or (reference.path if reference is not None else "")
        return ImageInfo(dataset, paths.stem, annotation.ext or _DEFAULT_EXTENSION, path=elsewhere)
    image = ImageInfo(dataset, paths.stem, path.suffix.removeprefix("."))
    if annotation.height and annotation.width and annotation.depth and not needs_orientation:
        return image
    facts = _read_facts(path)
    if facts is None:
        return image
    image = replace(
        image, height=facts.height, width=facts.width, depth=facts.depth or None, orientation=facts.orientation
    )
    return with_missing_sizes(annotation, image)


def _read_facts(path: Path) -> ImageFacts | None:
    try:
        with path.open("rb") as stream:
            content = stream.read(HEADER_BYTES)
            # Some files, TIFFs mostly, have their header at the end.
            return read_image_header(content) or read_image_header(content + stream.read())
    except (OSError, PublishError) as error:
        logger.warning("%s: its size is not known: %s", path, error)
        return None


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return None
        raise FileUnusable(path, f"it cannot be read ({error.strerror}); check its rights and the disk") from error


def _recognized(path: Path, content: bytes) -> str:
    try:
        return recognize(content, file_name=path.name)
    except AnnotationError as error:
        raise FileUnusable(path, str(error)) from error


def _parse(path: Path, content: bytes, name: str, image: ImageInfo | None = None) -> Reading:
    found = _recognized(path, content)
    if found != name:
        raise FileUnusable(path, f"by its name it is of {name}'s format, by its content of {found}'s; rename it")
    try:
        return CONVERTIBLE[name].read(content, image=image)
    except AnnotationError as error:
        raise FileUnusable(path, str(error)) from error
