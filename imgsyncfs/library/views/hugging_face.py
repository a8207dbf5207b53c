"""Hugging Face's layout: ``<split>/metadata.jsonl`` beside the images, for ``load_dataset("imagefolder")``.

A split without images has no directory: ``datasets`` fails on one (5.2: "corresponds to no data").
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from imgsyncfs.annotations.splits import Split
from imgsyncfs.library.views.contract import DatasetFacts, Directory, Document, Layout, View

if TYPE_CHECKING:
    # Not imported otherwise: numpy comes with it, and a mount's start need not wait for that.
    from imgsyncfs.catalog.listing import Listing
    from imgsyncfs.formats.dataset_documents.contract import DocumentEntry, LossTally

_NAMES = tuple([str(split).encode() for split in Split])


class HuggingFaceView(View):
    """Images of each split, and a line about each of them."""

    name = "hf"
    has_splits = True
    has_labels = False

    def layout(self, listing: Listing, facts: DatasetFacts) -> Layout:
        """A directory for each split with images, by the names that ``datasets`` knows; see `View.layout`."""
        # Late, as above.
        import numpy as np

        splits = facts.splits if facts.splits is not None else np.zeros(len(listing), np.uint8)
        present, order = np.unique(splits, return_inverse=True)
        names = [Directory(0, _NAMES[split]) for split in present.tolist()]
        return Layout((Directory(0, b""), *names), (order + 1).astype(np.uint8))

    def documents(self, listing: Listing, layout: Layout, facts: DatasetFacts) -> Sequence[Document]:  # noqa: ARG002 - as it is for all
        """A document for each split with images; see `View.documents`."""
        return [
            Document(place, b"metadata.jsonl", write=_metadata, split=_NAMES.index(directory.name))
            for place, directory in enumerate(layout.directories)
            if place
        ]


def _metadata(entries: Iterable[DocumentEntry], classes: Sequence[str], losses: LossTally) -> Iterator[bytes]:
    # Late, as above.
    from imgsyncfs.formats.dataset_documents.hugging_face import HuggingFaceDocument

    return HuggingFaceDocument().chunks(entries, classes, losses)
