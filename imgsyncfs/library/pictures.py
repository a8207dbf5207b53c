"""Pictures that views show in place of images: made by processes of their own, kept in the cache.

To decode an image and make a picture of it takes 5 to 100 ms, and its length is known only then. So a responder makes
none: the coordinator reads what a picture is made of, a worker makes it and puts it into the cache under a key that
says all that it depends on, and responders find it there.

Pictures have a share of the cache. What was used least recently goes first, and is made again when somebody looks.
"""

from __future__ import annotations

import threading
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from imgsyncfs.annotations.class_choice import ClassChoice
from imgsyncfs.cache import CacheWriter, extents_folder
from imgsyncfs.errors import AnnotationError, PreviewError
from imgsyncfs.fetching.contents import ContentReader
from imgsyncfs.library.listed_annotations import shown_annotation
from imgsyncfs.library.views.registry import find_view
from imgsyncfs.settings.library import LibrarySettings
from imgsyncfs.workers.limits import limit_memory

if TYPE_CHECKING:
    # Not imported otherwise: numpy comes with it, and a mount's start need not wait for that.
    from imgsyncfs.annotations.house_format import Annotation
    from imgsyncfs.catalog.listing import Listing
    from imgsyncfs.pictures.kinds import PictureKind
    from imgsyncfs.workers.frames import Send

MAKER = "imgsyncfs.library.pictures:PictureMaker"
"""The handler of a pool that makes pictures; its settings are those of the library."""

KEY_PREFIX = "picture|"

SHARE = 4
"""One part in so many of the cache is for pictures."""

MAKER_BYTES = 3 << 30
"""How much memory a process that makes pictures may take: Pillow decodes images of up to 180 million pixels."""

LOOKED_AFTER_BYTES = 32 << 20
"""After so many bytes of new pictures a maker looks whether they keep within their share."""


def picture_key(kind: PictureKind, listing: Listing, index: int) -> str:
    """The name of a picture in the cache: another one whenever its content would be another.

    Args:
        kind: how it is made.
        listing: of its image.
        index: of the image in it.
    """
    image = listing.image(index)
    parts = [kind.name, _pillow_version(), image.md5 or f"{listing.key}/{index}"]
    if kind.shows_annotation:
        annotation = listing.annotation(index)
        parts.append("" if annotation is None else annotation.md5 or f"{listing.key}/{index}")
        parts.append(listing.facts.choice.digest)
    return KEY_PREFIX + "|".join(parts)


@cache
def _pillow_version() -> str:
    # Pillow itself takes as long as numpy to import.
    return version("pillow")


class PictureParts(NamedTuple):
    """What a picture is made of.

    Attributes:
        name: of the image, for messages.
        image: the image file.
        annotation: the house annotation; None if there is none, or it is not shown.
        choice: what is made of the annotation's classes.
    """

    name: str
    image: bytes
    annotation: bytes | None
    choice: ClassChoice = ClassChoice()


def read_parts(kind: PictureKind, contents: ContentReader, listing: Listing, index: int) -> PictureParts:
    """Read what a picture is made of.

    Args:
        kind: how it is made.
        contents: reads files.
        listing: of the image.
        index: of the image in it.

    Raises:
        StoreError: the image or the annotation cannot be read.
    """
    annotation = None
    if kind.shows_annotation and listing.has_annotation(index):
        annotation = contents.read_whole(listing, listing.annotations, index)
    name = f"{listing.dataset_id}/{listing.stem(index).decode()}"
    image = contents.read_whole(listing, listing.images, index)
    return PictureParts(name, image, annotation, listing.facts.choice)


def make_picture(kind: PictureKind, parts: PictureParts) -> bytes:
    """Make a picture.

    Raises:
        PreviewError: the image cannot be shown; the message names it.
        AnnotationError: the annotation does not parse; likewise.
    """
    annotation: Annotation | None = None
    if parts.annotation is not None:
        try:
            annotation = shown_annotation(parts.annotation, parts.choice)
        except AnnotationError as error:
            raise AnnotationError(f"{parts.name}.json: {error}; mend the annotation and publish it again") from error
    try:
        return kind.make(parts.image, annotation)
    except PreviewError as error:
        raise PreviewError(f"{parts.name}: {error}") from error


class PictureMaker:
    """Makes pictures; see `imgsyncfs.workers.process.Handler`.

    Threads: `PictureMaker._lock` guards the count of new bytes; it is held for that alone.

    Args:
        settings: fields of the `LibrarySettings`.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        limit_memory(MAKER_BYTES)
        library = LibrarySettings.from_fields(settings)
        self._budget = library.cache_size // SHARE
        self._cache = CacheWriter(
            extents_folder(Path(library.cache_dir)), size_limit=library.cache_size, keep_free=library.keep_free
        )
        self._lock = threading.Lock()
        # A new process looks at once.
        self._new_bytes = LOOKED_AFTER_BYTES

    def handle(self, arguments: dict[str, Any], send: Send) -> tuple[dict[str, Any], bytes]:  # noqa: ARG002 - no parts
        """Make a picture and put it into the cache.

        Args:
            arguments: ``view``, whose pictures they are, ``name``, of the image, ``image`` and ``annotation``, paths
                of what it is made of, the latter empty without one, ``choice``, the fields of what is made of its
                classes, and ``key``, its own.
            send: not used.

        Returns:
            Nothing if the cache has it; else its content.

        Raises:
            PreviewError: the image cannot be shown.
            AnnotationError: the annotation does not parse.
        """
        kind = find_view(arguments["view"]).picture
        if kind is None:
            raise PreviewError(f"The view {arguments['view']} shows images as they are.")
        annotation = arguments["annotation"]
        parts = PictureParts(
            arguments["name"],
            Path(arguments["image"]).read_bytes(),
            Path(annotation).read_bytes() if annotation else None,
            ClassChoice.from_fields(arguments["choice"]),
        )
        try:
            content = make_picture(kind, parts)
        except MemoryError as error:
            raise PreviewError(
                f"{parts.name} cannot be drawn with {MAKER_BYTES / 1e9:.1f} GB of memory: the image is too large, or "
                "has too many objects"
            ) from error
        is_kept = self._cache.put(arguments["key"], content)
        if is_kept and self._is_to_look(len(content)):
            self._cache.keep_within(KEY_PREFIX, self._budget)
        return {}, b"" if is_kept else content

    def _is_to_look(self, byte_count: int) -> bool:
        """Count new bytes; says whether it is time to look how much room all pictures take up."""
        with self._lock:
            self._new_bytes += byte_count
            is_time = self._new_bytes >= LOOKED_AFTER_BYTES
            if is_time:
                self._new_bytes = 0
        return is_time
