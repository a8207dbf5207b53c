"""What views depend on beside a listing: the order of a dataset's classes, and the splits of its images."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from imgsyncfs.annotations.splits import SplitRule, split_stems
from imgsyncfs.catalog.rows import DatasetRow
from imgsyncfs.library.views.contract import DatasetFacts, View

if TYPE_CHECKING:
    # Not imported otherwise: numpy comes with it, and a mount's start need not wait for that.
    from imgsyncfs.catalog.listing import Listing


def facts_for(view: View, listing: Listing, row: DatasetRow, split_rule: Callable[[str], SplitRule]) -> DatasetFacts:
    """What a view depends on.

    Args:
        view: the view.
        listing: of a revision.
        row: the dataset's.
        split_rule: gives the rule of a dataset, by which its images are divided.

    Raises:
        ConfigurationError: that rule cannot be used.
    """
    # Late, as above.
    from imgsyncfs.annotations.classes import class_order

    classes = class_order(row.classes, ())
    if not view.has_splits:
        return DatasetFacts(classes)
    # Late, as above.
    import numpy as np

    stems = [stem.decode() for stem in listing.stems.texts()]
    return DatasetFacts(classes, np.array(split_stems(split_rule(row.dataset_id), stems), np.uint8))
