"""What views depend on beside a listing: the order of a dataset's classes, the splits and the values of its images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imgsyncfs.annotations.splits import split_stems
from imgsyncfs.catalog.mirror import CatalogMirror, DatasetTable
from imgsyncfs.catalog.rows import DatasetRow
from imgsyncfs.errors import DatasetChanged
from imgsyncfs.library.views.contract import DatasetFacts, View

if TYPE_CHECKING:
    # Not imported otherwise: numpy comes with it, and a mount's start need not wait for that.
    from imgsyncfs.catalog.listing import Listing
    from imgsyncfs.catalog.listing.columns import Column


def facts_for(view: View, listing: Listing, row: DatasetRow, mirror: CatalogMirror) -> DatasetFacts:
    """What a view depends on.

    Args:
        view: the view.
        listing: of a revision.
        row: the dataset's.
        mirror: knows split rules, and what annotations say.

    Raises:
        ConfigurationError: the dataset's split rule cannot be used.
        DatasetChanged: the listing is of another revision than the row: classes of one do not fit the other.
        CatalogError: the values of the images cannot be read.
    """
    # Late, as above.
    from imgsyncfs.annotations.classes import class_order

    table = mirror.table
    if listing.key != row.listing_key(table.catalog_id):
        raise DatasetChanged(f"The dataset {row.dataset_id} was published again just now; look again in a moment.")
    labels = table.labels.get(row.dataset_id)
    classes = class_order(row.classes, labels.object_classes if labels is not None else ())
    has_values = view.has_values and labels is not None and bool(labels.label_values)
    values = mirror.image_values(listing, view.label_name) if has_values else None
    if not view.has_splits:
        return DatasetFacts(classes, values=values)
    return DatasetFacts(classes, _splits(listing, table), values)


def _splits(listing: Listing, table: DatasetTable) -> Column:
    """The split of each image: of a selection, by the rule of its own dataset and its name there."""
    # Late, as above.
    import numpy as np

    stems = listing.stems.texts()
    if not listing.facts.origins:
        names = [stem.decode() for stem in stems]
        return np.array(split_stems(table.split_rule(listing.dataset_id), names), np.uint8)
    from imgsyncfs.catalog.listing.table import original_stem

    splits = np.zeros(len(listing), np.uint8)
    for place, origin in enumerate(listing.facts.origins):
        own = np.flatnonzero(listing.columns["origin"] == place)
        dataset_id = origin.dataset_id.encode()
        names = [original_stem(stems[index], dataset_id).decode() for index in own.tolist()]
        splits[own] = split_stems(table.split_rule(origin.dataset_id), names)
    return splits
