"""What a document about a whole dataset is written from: its images as they lie in a view, each with its annotation."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from imgsyncfs.errors import AnnotationError
from imgsyncfs.library.dataset_files import FileKey
from imgsyncfs.library.listed_annotations import listed_annotation, listed_image

if TYPE_CHECKING:
    from imgsyncfs.annotations.house_format import Annotation
    from imgsyncfs.formats.dataset_documents.contract import DocumentEntry
    from imgsyncfs.library.view_files import ViewFiles
    from imgsyncfs.library.views.contract import Document

READING_THREADS = 8
"""Annotations that are read at once: a store that answers in 20 ms then gives 400 a second and not 50."""

UNREADABLE = ("annotations that do not parse", "mend them and publish again")
"""What a document does not show of images in `unreadable`, and why."""


def document_entries(
    files: ViewFiles,
    document: Document,
    unreadable: list[int],
    *,
    patiently: Callable[[Callable[[], bytes]], bytes] = lambda read: read(),
) -> Iterator[DocumentEntry]:
    """What a document is written from.

    Args:
        files: of the dataset in the view.
        document: one of its documents.
        unreadable: is given the indexes of images whose annotations do not parse; these have none in the document.
        patiently: calls what reads an annotation, in another thread; again if that may help.

    Returns:
        An entry for each image that the document is about, in the listing's order.
    """
    # Late: numpy comes with them.
    from imgsyncfs.annotations.splits import Split
    from imgsyncfs.formats.dataset_documents.contract import DocumentEntry
    from imgsyncfs.workers.threads import map_in_order

    listing, splits = files.listing, files.splits
    chosen = [
        index
        for index in (range(len(listing)) if document.images is None else document.images)
        if document.split is None or (splits is not None and splits[index] == document.split)
    ]
    here = files.directory_name(document.directory).decode()

    def annotation_of(index: int) -> Annotation | None:
        if not listing.has_annotation(index):
            return None
        try:
            content = patiently(lambda: files.stored_annotation(index))
            return listed_annotation(content, listing, index, longest_side=files.longest_side)
        except AnnotationError:
            unreadable.append(index)
            return None

    def entry(index: int) -> DocumentEntry:
        there = files.directory_name(files.directory_of(FileKey(files.image_kind, index))).decode()
        name = files.name(FileKey(files.image_kind, index)).decode()
        path = "" if there == here else posixpath.join(posixpath.relpath(there or ".", here or "."), name)
        image = replace(listed_image(listing, index, longest_side=files.longest_side), path=path)
        split = "train" if splits is None else str(Split(int(splits[index])))
        return DocumentEntry(image, split, annotation_of(index))

    return iter(map_in_order(entry, chosen, threads=READING_THREADS))
