"""CVAT's layout: ``images`` and ``annotations.xml``, CVAT for images 1.1, with rotations; Datumaro reads it as well."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from imgsyncfs.library.views.contract import DatasetFacts, Directory, Document, Layout, View

if TYPE_CHECKING:
    # Not imported otherwise: numpy comes with it, and a mount's start need not wait for that.
    from imgsyncfs.catalog.listing import Listing
    from imgsyncfs.formats.dataset_documents.contract import DocumentEntry, LossTally


class CvatView(View):
    """All images, and one document about them."""

    name = "cvat"
    has_splits = True
    has_labels = False

    def layout(self, listing: Listing, facts: DatasetFacts) -> Layout:  # noqa: ARG002 - the same for all
        """One directory of images; see `View.layout`."""
        # Late, as above.
        import numpy as np

        return Layout((Directory(0, b""), Directory(0, b"images")), np.ones(len(listing), np.uint8))

    def documents(self, listing: Listing, layout: Layout, facts: DatasetFacts) -> Sequence[Document]:  # noqa: ARG002 - as it is for all
        """CVAT's document; see `View.documents`."""
        return [Document(0, b"annotations.xml", write=_cvat)]


def _cvat(entries: Iterable[DocumentEntry], classes: Sequence[str], losses: LossTally) -> Iterator[bytes]:
    # Late, as above.
    from imgsyncfs.formats.dataset_documents.cvat import CvatDocument

    return CvatDocument().chunks(entries, classes, losses)
