"""YOLO's layout, as ultralytics, supervision and RF-DETR read it: ``data.yaml``, ``train/images``, ``train/labels`` ….

An image that was looked at and shows nothing has an empty label file; one that nobody has looked at has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from imgsyncfs.annotations.splits import Split
from imgsyncfs.formats.contract import FormatDescription
from imgsyncfs.formats.registry import NUMBERED_FORMATS
from imgsyncfs.library.views.contract import DatasetFacts, Document, Layout
from imgsyncfs.library.views.split import SplitView

if TYPE_CHECKING:
    # Not imported otherwise: numpy comes with it, and a mount's start need not wait for that.
    from imgsyncfs.catalog.listing import Listing


class YoloView(SplitView):
    """Label files with one row an object.

    Args:
        name: how users call it, and of the format.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def target(self) -> FormatDescription:
        """YOLO's text, as ``x.txt``."""
        return NUMBERED_FORMATS[self.name].in_view()

    def documents(self, listing: Listing, layout: Layout, facts: DatasetFacts) -> Sequence[Document]:  # noqa: ARG002 - as it is for all
        """``data.yaml``; see `View.documents`."""
        return [Document(0, b"data.yaml", partial(_data_yaml, facts))]


def _data_yaml(facts: DatasetFacts) -> bytes:
    # Late, as above.
    import numpy as np

    from imgsyncfs.formats.dataset_documents.yolo import data_yaml

    splits = [] if facts.splits is None else np.unique(facts.splits).tolist()
    return data_yaml({str(Split(each)) for each in splits}, facts.classes)
