"""The gallery: ``index.html`` shows the images with their annotations, from disk, with no server and no network.

``images`` has the images, ``page`` what all galleries share, and ``data`` what the page loads: what is known of all
images, and what is drawn of each run of them, which is written when somebody scrolls there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from imgsyncfs.catalog.rows import DatasetRow
from imgsyncfs.library.views.contract import DatasetFacts, Directory, Document, Layout, View

if TYPE_CHECKING:
    # Not imported otherwise: numpy comes with it, and a mount's start need not wait for that.
    from imgsyncfs.catalog.listing import Listing

LEAST_AT_ONCE = 250
"""Images that a script of shapes is about: these take a fraction of a second to write."""

MOST_SCRIPTS = 250
"""Each that was looked at is an open file of every responder. Scripts of larger datasets are about more images."""

_TOP, _IMAGES, _DATA, _PAGE, _VENDOR = range(5)
_DIRECTORIES = (
    Directory(_TOP, b""),
    Directory(_TOP, b"images"),
    Directory(_TOP, b"data"),
    Directory(_TOP, b"page"),
    Directory(_PAGE, b"vendor"),
)


class GalleryView(View):
    """All images, and a page about them."""

    name = "gallery"
    has_labels = False

    def layout(self, listing: Listing, facts: DatasetFacts) -> Layout:  # noqa: ARG002 - the same for all
        """One directory of images; see `View.layout`."""
        # Late, as above.
        import numpy as np

        return Layout(_DIRECTORIES, np.full(len(listing), _IMAGES, np.uint8))

    def documents(self, listing: Listing, layout: Layout, facts: DatasetFacts) -> Sequence[Document]:  # noqa: ARG002 - as it is for all
        """The page, and what it loads; see `View.documents`."""
        # Late, as above.
        from imgsyncfs.formats.gallery.pages import PAGE_FILES, page_file
        from imgsyncfs.formats.gallery.shapes import GalleryShapes
        from imgsyncfs.formats.gallery.summary import GallerySummary

        at_once = images_at_once(len(listing))
        documents = [
            Document(_TOP, b"index.html", partial(_page, listing, at_once)),
            Document(_DATA, b"cover.js", partial(_cover, listing)),
            Document(_DATA, b"summary.js", write=GallerySummary().chunks),
        ]
        for number, first in enumerate(range(0, len(listing), at_once)):
            images = range(first, min(first + at_once, len(listing)))
            shapes = GalleryShapes(first)
            documents.append(Document(_DATA, b"shapes-%03d.js" % number, write=shapes.chunks, images=images))
        for each in PAGE_FILES:
            folder, _, name = each.rpartition("/")
            documents.append(Document(_VENDOR if folder else _PAGE, name.encode(), partial(page_file, each)))
        return documents


def images_at_once(count: int) -> int:
    """How many images each script of shapes is about, in a dataset of `count` images."""
    return max(LEAST_AT_ONCE, -(-count // MOST_SCRIPTS))


def catalog_gallery(rows: Iterable[DatasetRow]) -> bytes:
    """The page of all datasets, ``.imgsyncfs/index.html`` of a mount; reads neither listings nor blobs."""
    # Late, as above.
    from imgsyncfs.formats.gallery.pages import catalog_page

    return catalog_page(
        [
            {
                "id": row.dataset_id,
                "images": row.size,
                "label_version": row.label_version,
                "image_type": row.image_type,
                "label_type": row.label_type,
                "classes": row.classes,
                "projects": row.projects,
                "note": row.note,
            }
            for row in rows
        ]
    )


def _page(listing: Listing, at_once: int) -> bytes:
    # Late, as above.
    from imgsyncfs.formats.gallery.pages import dataset_page

    return dataset_page(
        {
            "id": listing.dataset_id,
            "label_version": listing.label_version,
            "revision": listing.revision,
            "images": len(listing),
            "at_once": at_once,
        }
    )


def _cover(listing: Listing) -> bytes:
    # Late, as above.
    from imgsyncfs.formats.gallery.pages import cover

    first = f"images/{listing.stem(0).decode()}.{listing.ext(0)}" if len(listing) else ""
    return cover(listing.dataset_id, first)
