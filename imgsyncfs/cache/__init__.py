"""Extents on disk: what has been fetched once is read from here.

Two sides share one folder. Worker processes add and evict extents (`CacheWriter`), the daemon reads them
(`CacheReader`). Any number of processes may do either at once: several mounts, `imgsyncfs cache clear` beside them.

- `table`: the index, diskcache's SQLite table; small extents lie in it.
- `files`, with `folders`: the content of all others, a file each, or one for several small ones.
- `writer` and `reader`: the two sides.
- `orphans`: files that a killed writer has left.
- `preparation`: what a mount does before either side comes up.
- `upkeep`: what `imgsyncfs cache` does.

Nothing is trusted unverified: an entry's tag holds length and digest, checked when the daemon opens it the first time.
An entry that does not match counts as missing; the worker that is then asked for it removes it and fetches it again.
So does one that leads elsewhere: names come only from those that the cache gives, no link is followed, and the folder
must be the user's alone (`imgsyncfs.settings.private_folders`).
"""

from __future__ import annotations

from imgsyncfs.cache.extent import OpenExtent
from imgsyncfs.cache.files import content_tag
from imgsyncfs.cache.preparation import extents_folder, prepare_cache
from imgsyncfs.cache.reader import CacheCounts, CacheReader
from imgsyncfs.cache.table import INLINE_BYTES, PlainDisk, check_database
from imgsyncfs.cache.writer import CacheWriter

__all__ = [
    "INLINE_BYTES",
    "CacheCounts",
    "CacheReader",
    "CacheWriter",
    "OpenExtent",
    "PlainDisk",
    "check_database",
    "content_tag",
    "extents_folder",
    "prepare_cache",
]
