"""Rendered files: an annotation in the format a tool reads, rendered at the first look.

The kernel needs an exact size before anything is read, so `stat` renders. Some rendered files are kept for the read
that mostly follows; the caller keeps the sizes for good.

Threads: any number. Two that need the same file at once both render it: the result is the same, and to wait for each
other would cost more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from imgsyncfs.errors import AnnotationError
from imgsyncfs.fetching.contents import ContentReader
from imgsyncfs.formats.registry import FormatDescription, Loss, Rendered
from imgsyncfs.library.kept_renderings import KeptRenderings
from imgsyncfs.library.listed_annotations import listed_image, scaled_annotation, shown_annotation
from imgsyncfs.library.rendered_alone import QUICK_BYTES, TakesLong, takes_long

if TYPE_CHECKING:
    # Not imported otherwise: numpy comes with it, and a mount's start need not wait for that.
    from imgsyncfs.annotations.house_format import Annotation
    from imgsyncfs.catalog.listing import Listing


MOST_REPORTED = 10_000
"""Kinds of losses that a process reports; a catalog has a few for each dataset."""


class Renderer:
    """Renders siblings of a listing's images.

    Args:
        contents: reads annotations.
        kept: where renderings are kept.
        report_loss: told what a view does not show, once for each kind of loss in a dataset's revision: a sentence,
            and what tells it from others.
        is_limited: leave to others what takes long: somebody waits for this process.
    """

    def __init__(
        self,
        contents: ContentReader,
        kept: KeptRenderings,
        report_loss: Callable[[str, str], None] = lambda _, __: None,
        *,
        is_limited: bool = False,
    ) -> None:
        self._contents = contents
        self._kept = kept
        self._report_loss = report_loss
        self._is_limited = is_limited
        self._reported: set[tuple[str, ...]] = set()
        self.count = 0
        """How many files were rendered."""

    def render(
        self,
        listing: Listing,
        index: int,
        target: FormatDescription,
        *,
        classes: tuple[str, ...] = (),
        longest_side: int | None = None,
        view: str = "",
    ) -> bytes:
        """One image's annotation in another format.

        Args:
            listing: the dataset's.
            index: of the image in it; it has an annotation.
            target: the format.
            classes: of the dataset, in its order, for formats that number them; the same ones for a listing.
            longest_side: of the picture that is shown in the image's place, in pixels; None for the image itself.
            view: name of the view that it is rendered for; empty where what is not shown is embedded.

        Returns:
            The file's content, the same at every call.

        Raises:
            TakesLong: it is not for this process to render.
            StoreError: the annotation cannot be read.
            AnnotationError: it does not parse, or cannot be shown; the message names the file.
        """
        name = f"{listing.key}/{index}/{target.name}/{longest_side or ''}"
        kept = self._kept.get(name)
        if kept is not None:
            return kept
        if self._is_limited and listing.annotations.size_and_time(index)[0] > QUICK_BYTES:
            raise TakesLong
        made = self.rendered(listing, index, target, classes=classes, longest_side=longest_side)
        for loss in made.losses if view else ():
            self._note_loss(listing, listing.stem(index).decode(), view, loss)
        self._kept.put(name, made.content)
        return made.content

    def rendered(
        self,
        listing: Listing,
        index: int,
        target: FormatDescription,
        *,
        classes: tuple[str, ...] = (),
        longest_side: int | None = None,
    ) -> Rendered:
        """As `render`, with what the file does not show; nothing is kept."""
        stem = listing.stem(index).decode()
        if not listing.has_annotation(index):
            raise AnnotationError(f"{listing.dataset_id}/{stem} has no annotation")
        content = self._contents.read_whole(listing, listing.annotations, index)
        try:
            annotation = shown_annotation(content, listing.facts.choice)
            if self._is_limited and takes_long(annotation):
                raise TakesLong
            if longest_side is not None:
                annotation = scaled_annotation(annotation, listing.image_info(index)[:2], longest_side)
            return self._made(listing, index, target, annotation, classes, longest_side)
        except AnnotationError as error:
            raise AnnotationError(
                f"{listing.dataset_id}/{stem}.json: {error}; mend the annotation and publish it again"
            ) from error

    def _made(
        self,
        listing: Listing,
        index: int,
        target: FormatDescription,
        annotation: Annotation,
        classes: tuple[str, ...],
        longest_side: int | None,
    ) -> Rendered:
        image = replace(listed_image(listing, index, longest_side=longest_side), classes=classes)
        self.count += 1
        return target.render(annotation, image)

    def _note_loss(self, listing: Listing, stem: str, view: str, loss: Loss) -> None:
        key = (listing.key, view, loss.what, loss.reason)
        if key in self._reported or len(self._reported) >= MOST_REPORTED:
            return
        self._reported.add(key)
        self._report_loss(*loss_report(listing, stem, view, loss))


def loss_report(listing: Listing, stem: str, view: str, loss: Loss) -> tuple[str, str]:
    """What is told of something that a view does not show: a sentence, and what tells it from others."""
    cause = f"The view {view} of {listing.dataset_id} does not show {loss.what}: {loss.reason}"
    return f"{cause} (first met in {stem}).", cause
