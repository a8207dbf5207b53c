"""Extents on disk: what has been fetched once is read from here.

Two sides share one folder. Worker processes add and evict extents (`CacheWriter`), others read them
(`CacheReader`). Any number of processes may do either at once: several mounts, `imgsyncfs cache clear` beside them.

- `table`: the index, diskcache's SQLite table; small extents lie in it.
- `files`: the content of all others, a file each, or one for several small ones.
- `extent`: an extent's entry in the table, its tag, and its content.
- `writer` and `reader`: the two sides.
- `upkeep`: what a mount does before either side comes up, and what `imgsyncfs cache` does.

Nothing is trusted unverified: an entry's tag holds length and digest, checked when it is opened the first time.
An entry that does not match counts as missing; the worker that is then asked for it removes it and fetches it again.
So does one that leads elsewhere: names come only from those that the cache gives, no link is followed, and the folder
must be the user's alone (`imgsyncfs.settings.private_folders`).
"""

from __future__ import annotations

from imgsyncfs.cache.extent import OpenExtent, content_tag
from imgsyncfs.cache.reader import CacheCounts, CacheReader
from imgsyncfs.cache.table import INLINE_BYTES, PlainDisk, check_database
from imgsyncfs.cache.upkeep import extents_folder, prepare_cache
from imgsyncfs.cache.verified import VERIFIED_BYTES, VerifiedExtents
from imgsyncfs.cache.writer import CacheWriter

__all__ = [
    "INLINE_BYTES",
    "VERIFIED_BYTES",
    "CacheCounts",
    "CacheReader",
    "CacheWriter",
    "OpenExtent",
    "PlainDisk",
    "VerifiedExtents",
    "check_database",
    "content_tag",
    "extents_folder",
    "prepare_cache",
]
