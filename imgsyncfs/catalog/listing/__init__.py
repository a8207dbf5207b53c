"""The listing of a dataset: the compact in-memory table of one revision's files. Knows rows, and no SQL.

- `build_listing` makes one of a catalog's rows, `read_listing` asks the catalog for them.
- `save_listing` and `load_listing` keep it on disk, from where it is mapped into memory.
- `changed` and `unchanged` say what differs between two; `numbered` numbers files, so that the same content keeps its
  number from revision to revision.
- `ImageValues` says which value each image of a listing has of a classification.
"""

from __future__ import annotations

from imgsyncfs.catalog.listing.build import build_listing, read_listing
from imgsyncfs.catalog.listing.changes import Changes, FileChanges, changed, unchanged
from imgsyncfs.catalog.listing.collected import CollectedRows, collect_annotations
from imgsyncfs.catalog.listing.files import FileRecord
from imgsyncfs.catalog.listing.image_values import ImageValues, join_values, load_values, save_values
from imgsyncfs.catalog.listing.joined import ListingPart, chosen_indices, join_listings
from imgsyncfs.catalog.listing.numbering import FileNumbers, continues, numbered
from imgsyncfs.catalog.listing.saved import (
    ListingFiles,
    listing_from_bytes,
    listing_to_bytes,
    load_listing,
    load_newest,
    map_listing,
    remove_listing,
    save_listing,
)
from imgsyncfs.catalog.listing.table import Listing

__all__ = [
    "Changes",
    "CollectedRows",
    "FileChanges",
    "FileNumbers",
    "FileRecord",
    "ImageValues",
    "Listing",
    "ListingFiles",
    "ListingPart",
    "build_listing",
    "changed",
    "chosen_indices",
    "collect_annotations",
    "continues",
    "join_listings",
    "join_values",
    "listing_from_bytes",
    "listing_to_bytes",
    "load_listing",
    "load_newest",
    "load_values",
    "map_listing",
    "numbered",
    "read_listing",
    "remove_listing",
    "save_listing",
    "save_values",
    "unchanged",
]
