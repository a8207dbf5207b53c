"""Views with the images of a dataset divided into directories: ``train``, ``valid`` and ``test``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imgsyncfs.annotations.splits import Split
from imgsyncfs.library.views.contract import DatasetFacts, Directory, Layout, View

if TYPE_CHECKING:
    # Not imported otherwise: numpy comes with it, and a mount's start need not wait for that.
    from imgsyncfs.catalog.listing import Listing

SPLIT_NAMES = (b"train", b"valid", b"test")
"""The directories, by `imgsyncfs.annotations.splits.Split`."""

IMAGES_NAME = b"images"


class SplitView(View):
    """Images in ``<split>/images``, their annotations in a directory beside.

    Attributes:
        labels_name: the name of the directory of annotations in each split's.
    """

    has_splits = True
    labels_name = b"labels"

    def layout(self, listing: Listing, facts: DatasetFacts) -> Layout:
        """Directories for each split; see `View.layout`."""
        # Late, as above.
        import numpy as np

        directories = [Directory(0, b"")]
        for name in SPLIT_NAMES:
            split = len(directories)
            directories += [Directory(0, name), Directory(split, IMAGES_NAME), Directory(split, self.labels_name)]
        splits = facts.splits if facts.splits is not None else np.zeros(len(listing), np.uint8)
        return Layout(tuple(directories), splits * 3 + 2, splits * 3 + 3)

    @staticmethod
    def images_path(split: Split) -> str:
        """Where the images of a split are, from the dataset's directory on."""
        return f"{SPLIT_NAMES[split].decode()}/{IMAGES_NAME.decode()}"
