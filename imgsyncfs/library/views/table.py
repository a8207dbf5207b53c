"""Tables of a dataset: ``annotations.parquet`` and ``images.parquet`` for pandas, DuckDB and polars, ``images.csv``.

What is in an image has no extended attribute: with these, `cp -a` asks nine times more for each image.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from imgsyncfs.library.views.contract import DatasetFacts, Document, Layout, View, without_images

if TYPE_CHECKING:
    # Not imported otherwise: numpy comes with it, and a mount's start need not wait for that.
    from imgsyncfs.catalog.listing import Listing
    from imgsyncfs.formats.dataset_documents.contract import DocumentEntry, LossTally

ANNOTATIONS, IMAGES, LIST = b"annotations.parquet", b"images.parquet", b"images.csv"


class TableView(View):
    """The annotations of a dataset and its images, a table each, and a list to read.

    Rows say where in the mount the images are.
    """

    name = "table"
    has_splits = True
    has_labels = False
    documents_version = 1

    def layout(self, listing: Listing, facts: DatasetFacts) -> Layout:  # noqa: ARG002 - the same for all
        """No image is in it; see `View.layout`."""
        return without_images(listing)

    def documents(self, listing: Listing, layout: Layout, facts: DatasetFacts) -> Sequence[Document]:  # noqa: ARG002 - all are in one directory
        """The tables; see `View.documents`."""
        # A million images take seconds: so both are written, and none is made by who answers the kernel.
        return (
            Document(0, ANNOTATIONS, write=partial(_annotations, listing.label_version)),
            Document(0, IMAGES, write=partial(_images, listing, facts)),
            Document(0, LIST, write=partial(_list, listing.label_version)),
        )


def _annotations(
    label_version: str, entries: Iterable[DocumentEntry], classes: Sequence[str], losses: LossTally
) -> Iterator[bytes]:
    # Late, as above.
    from imgsyncfs.formats.dataset_documents.annotation_table import AnnotationTable

    return AnnotationTable(label_version).chunks(entries, classes, losses)


def _list(
    label_version: str, entries: Iterable[DocumentEntry], classes: Sequence[str], losses: LossTally
) -> Iterator[bytes]:
    # Late, as above.
    from imgsyncfs.formats.dataset_documents.image_list import ImageList

    return ImageList(label_version).chunks(entries, classes, losses)


def _images(
    listing: Listing,
    facts: DatasetFacts,
    entries: Iterable[DocumentEntry],  # noqa: ARG001 - they are not begun, and no annotation is read
    classes: Sequence[str],  # noqa: ARG001 - of objects
    losses: LossTally,  # noqa: ARG001 - there are none
) -> Iterator[bytes]:
    # Late, as above.
    from imgsyncfs.library.image_table import image_table_chunks

    return image_table_chunks(listing, facts.splits)
