"""Which extents in the cache belong to a dataset."""

from __future__ import annotations

import functools
from collections.abc import Callable

from imgsyncfs.catalog.listing import Listing

_END = 1 << 62
"""Beyond the end of any blob."""


def store_and_folder(key: str) -> tuple[str, str]:
    """The store that an extent is from, and the first folder in its blob's name; see `ExtentRequest.key`.

    What was published lies in a folder that bears the dataset's id. The folder is empty for a blob that is in none.
    """
    store, _, rest = key.partition("|")
    return store, rest.rsplit("|", 2)[0].rpartition("/")[0].partition("/")[0]


def belongs_to(listing: Listing) -> Callable[[str], bool]:
    """Say which extents belong to a dataset.

    Args:
        listing: the dataset's. A blob belongs to it if it holds one of its files, or lies in the folder that bears its
            id, where its earlier revisions lie too; a pack belongs to the dataset that it was published for.

    Returns:
        Says of a cache key whether its extent is one of them.
    """
    store = f"{listing.store}|"
    folder = f"{listing.dataset_id}/"

    @functools.lru_cache(maxsize=1024)
    def holds(blob: str) -> bool:
        return blob.startswith(folder) or bool(listing.members(blob, 0, _END))

    return lambda key: key.startswith(store) and holds(key[len(store) :].rsplit("|", 2)[0])
