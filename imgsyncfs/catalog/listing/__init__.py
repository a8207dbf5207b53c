"""The listing of a dataset: the compact in-memory table of one revision's files. Knows rows, and no SQL.

- `build_listing` makes one of a catalog's rows, `read_listing` asks the catalog for them.
- `save_listing` and `load_listing` keep it on disk, from where it is mapped into memory.
- `changed` and `changed_files` say what differs between two.
"""

from __future__ import annotations

from imgsyncfs.catalog.listing.build import build_listing, read_listing
from imgsyncfs.catalog.listing.changes import Changes, FileChanges, changed, changed_files
from imgsyncfs.catalog.listing.collected import CollectedRows, collect_annotations
from imgsyncfs.catalog.listing.files import FileRecord
from imgsyncfs.catalog.listing.saved import load_listing, save_listing
from imgsyncfs.catalog.listing.table import Listing

__all__ = [
    "Changes",
    "CollectedRows",
    "FileChanges",
    "FileRecord",
    "Listing",
    "build_listing",
    "changed",
    "changed_files",
    "collect_annotations",
    "load_listing",
    "read_listing",
    "save_listing",
]
