"""Hugging Face's layout: ``<split>/metadata.jsonl`` beside the images, for ``load_dataset("imagefolder")``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from imgsyncfs.annotations.splits import Split
from imgsyncfs.library.views.contract import DatasetFacts, Directory, Document, Layout, View

if TYPE_CHECKING:
    # Not imported otherwise: numpy comes with it, and a mount's start need not wait for that.
    from imgsyncfs.catalog.listing import Listing
    from imgsyncfs.formats.dataset_documents.contract import DocumentEntry, LossTally


class HuggingFaceView(View):
    """Images of each split, and a line about each of them."""

    name = "hf"
    has_splits = True
    has_labels = False

    def layout(self, listing: Listing, facts: DatasetFacts) -> Layout:
        """A directory for each split, by the names that ``datasets`` knows; see `View.layout`."""
        # Late, as above.
        import numpy as np

        splits = facts.splits if facts.splits is not None else np.zeros(len(listing), np.uint8)
        names = [Directory(0, str(split).encode()) for split in Split]
        return Layout((Directory(0, b""), *names), splits + 1)

    def documents(self, listing: Listing, layout: Layout, facts: DatasetFacts) -> Sequence[Document]:  # noqa: ARG002 - as it is for all
        """A document for each split; see `View.documents`."""
        return [Document(split + 1, b"metadata.jsonl", write=_metadata, split=split) for split in Split]


def _metadata(entries: Iterable[DocumentEntry], classes: Sequence[str], losses: LossTally) -> Iterator[bytes]:
    # Late, as above.
    from imgsyncfs.formats.dataset_documents.hugging_face import HuggingFaceDocument

    return HuggingFaceDocument().chunks(entries, classes, losses)
