"""Rendered files: an annotation in the format a tool reads, rendered at the first look.

The kernel needs an exact size before anything is read, so `stat` renders. Some rendered files are kept for the read
that mostly follows; the caller keeps the sizes for good.

Threads: any number. Two that need the same file at once both render it: the result is the same, and to wait for each
other would cost more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from imgsyncfs.errors import AnnotationError
from imgsyncfs.fetching.contents import ContentReader
from imgsyncfs.formats.registry import FormatDescription, ImageInfo
from imgsyncfs.library.kept_renderings import KeptRenderings

if TYPE_CHECKING:
    # Not imported otherwise: numpy comes with it, and a mount's start need not wait for that.
    from imgsyncfs.catalog.listing import Listing


class Renderer:
    """Renders siblings of a listing's images.

    Args:
        contents: reads annotations.
        kept: where renderings are kept.
    """

    def __init__(self, contents: ContentReader, kept: KeptRenderings) -> None:
        self._contents = contents
        self._kept = kept
        self.count = 0
        """How many files were rendered."""

    def render(
        self, listing: Listing, index: int, target: FormatDescription, *, classes: tuple[str, ...] = ()
    ) -> bytes:
        """One image's annotation in another format.

        Args:
            listing: the dataset's.
            index: of the image in it; it has an annotation.
            target: the format.
            classes: of the dataset, in its order, for formats that number them; the same ones for a listing.

        Returns:
            The file's content, the same at every call.

        Raises:
            StoreError: the annotation cannot be read.
            AnnotationError: it does not parse; the message names the file.
        """
        name = f"{listing.key}/{index}/{target.name}"
        kept = self._kept.get(name)
        if kept is not None:
            return kept
        stem = listing.stem(index).decode()
        if not listing.has_annotation(index):
            raise AnnotationError(f"{listing.dataset_id}/{stem} has no annotation")
        content = self._contents.read_whole(listing, listing.annotations, index)
        # Late, as above.
        from imgsyncfs.annotations.house_format import parse_annotation

        try:
            annotation = parse_annotation(content)
        except AnnotationError as error:
            raise AnnotationError(
                f"{listing.dataset_id}/{stem}.json: {error}; mend the annotation and publish it again"
            ) from error
        height, width, depth = listing.image_info(index)
        image = ImageInfo(
            listing.dataset_id,
            stem,
            listing.ext(index),
            height or None,
            width or None,
            depth or None,
            listing.orientation(index),
            classes=classes,
        )
        rendered = target.render(annotation, image).content
        self.count += 1
        self._kept.put(name, rendered)
        return rendered
