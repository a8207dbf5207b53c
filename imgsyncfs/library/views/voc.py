"""Pascal VOC's layout, as torchvision and Datumaro read it.

``VOCdevkit/VOC2012/JPEGImages``, ``Annotations`` and, with the stems of each split, ``ImageSets/Main``. An image that
nobody has looked at has no annotation and is in no such list: torchvision fails on the first one that is. Datumaro
takes the names of the classes from ``labelmap.txt``, and without it refuses all but VOC's own twenty.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING

from imgsyncfs.annotations.splits import Split
from imgsyncfs.formats.contract import FormatDescription
from imgsyncfs.formats.registry import FORMATS
from imgsyncfs.library.views.contract import DatasetFacts, Directory, Document, Layout, View

if TYPE_CHECKING:
    # Not imported otherwise: numpy comes with it, and a mount's start need not wait for that.
    from imgsyncfs.catalog.listing import Listing

_TOP, _DEVKIT, _YEAR, _IMAGES, _ANNOTATIONS, _SETS, _MAIN = range(7)
_DIRECTORIES = (
    Directory(_TOP, b""),
    Directory(_TOP, b"VOCdevkit"),
    Directory(_DEVKIT, b"VOC2012"),
    Directory(_YEAR, b"JPEGImages"),
    Directory(_YEAR, b"Annotations"),
    Directory(_YEAR, b"ImageSets"),
    Directory(_SETS, b"Main"),
)

_SETS_OF = {
    b"train.txt": {Split.TRAIN},
    b"val.txt": {Split.VALIDATION},
    b"trainval.txt": {Split.TRAIN, Split.VALIDATION},
    b"test.txt": {Split.TEST},
}


class VocView(View):
    """VOC's XML, and which images are in which split."""

    name = "voc"
    has_splits = True

    @property
    def target(self) -> FormatDescription:
        """VOC's XML, as ``x.xml``."""
        return FORMATS["voc"].in_view()

    def layout(self, listing: Listing, facts: DatasetFacts) -> Layout:  # noqa: ARG002 - the same for all
        """VOC's directories; see `View.layout`."""
        # Late, as above.
        import numpy as np

        everywhere = np.zeros(len(listing), np.uint8)
        return Layout(_DIRECTORIES, everywhere + _IMAGES, everywhere + _ANNOTATIONS)

    def documents(self, listing: Listing, layout: Layout, facts: DatasetFacts) -> Sequence[Document]:  # noqa: ARG002 - as above
        """A list of stems for each split, and one of the classes; see `View.documents`."""
        sets = [Document(_MAIN, name, partial(_stems, listing, facts, splits)) for name, splits in _SETS_OF.items()]
        return [*sets, Document(_YEAR, b"labelmap.txt", partial(_label_map, facts.classes))]


def _stems(listing: Listing, facts: DatasetFacts, splits: Collection[Split]) -> bytes:
    # Late, as above.
    import numpy as np

    if facts.splits is None:
        return b""
    labelled = listing.having_siblings()
    chosen = labelled[np.isin(facts.splits[labelled], [*splits])]
    return b"".join([stem + b"\n" for stem in listing.stems.texts(chosen)])


def _label_map(classes: Sequence[str]) -> bytes:
    """A line for each class: name, colour, parts, actions. Names that such a line cannot hold are left out."""
    written = [
        name for name in classes if name == name.strip() and name and name[0] != "#" and not {*name} & {*":\r\n"}
    ]
    return "".join([f"{name}:::\n" for name in written]).encode()
