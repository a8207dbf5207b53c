"""COCO's layout: ``<split>/_annotations.coco.json`` beside the images, and ``instances.json`` for all of them.

Source: the readers of RF-DETR and supervision, and pycocotools for ``instances.json``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from imgsyncfs.annotations.splits import Split
from imgsyncfs.library.views.contract import DatasetFacts, Directory, Document, Layout, View
from imgsyncfs.library.views.split import SPLIT_NAMES

if TYPE_CHECKING:
    # Not imported otherwise: numpy comes with it, and a mount's start need not wait for that.
    from imgsyncfs.catalog.listing import Listing
    from imgsyncfs.formats.dataset_documents.contract import DocumentEntry, LossTally


class CocoView(View):
    """Images of each split, and one document about all of them."""

    name = "coco"
    has_splits = True
    has_labels = False

    def layout(self, listing: Listing, facts: DatasetFacts) -> Layout:
        """A directory for each split; see `View.layout`."""
        # Late, as above.
        import numpy as np

        splits = facts.splits if facts.splits is not None else np.zeros(len(listing), np.uint8)
        return Layout((Directory(0, b""), *(Directory(0, name) for name in SPLIT_NAMES)), splits + 1)

    def documents(self, listing: Listing, layout: Layout, facts: DatasetFacts) -> Sequence[Document]:  # noqa: ARG002 - as it is for all
        """COCO's documents; see `View.documents`."""
        parts = [Document(split + 1, b"_annotations.coco.json", write=_coco, split=split) for split in Split]
        return [Document(0, b"instances.json", write=_coco), *parts]


def _coco(entries: Iterable[DocumentEntry], classes: Sequence[str], losses: LossTally) -> Iterator[bytes]:
    # Late, as above.
    from imgsyncfs.formats.dataset_documents.coco import CocoDocument

    return CocoDocument().chunks(entries, classes, losses)
