"""Files of the cache that no entry leads to: what a writer leaves that is killed between a file and the table.

A mount looks for orphans once, soon after it has come up; `imgsyncfs cache verify` and `clear` do so as well.
"""

from __future__ import annotations

import time

from imgsyncfs.cache.files import FOLDERS, ExtentFiles
from imgsyncfs.cache.table import ExtentTable

IN_FLIGHT_SECONDS = 60.0
"""A younger file may be one that a writer is about to add to the table."""


def remove_orphans(files: ExtentFiles, table: ExtentTable, *, older_than: float = IN_FLIGHT_SECONDS) -> int:
    """Remove the files that no entry leads to.

    Other processes may write meanwhile: a file is found before the table is asked, so that one with an entry by then
    stays. One folder is done at a time: 200,000 entries take 0.7 s in all, and nobody waits for more than a sixteenth.

    Args:
        files: the cache's.
        table: the cache's.
        older_than: seconds since an orphan was last written; younger files stay.

    Returns:
        The number of files removed.

    Raises:
        OSError: a folder cannot be read or written.
        sqlite3.Error: the table cannot be read.
    """
    before = time.time() - older_than
    count = 0
    for folder in FOLDERS:
        found = files.names(folder)
        found -= table.filenames(folder)
        count += files.remove(name for name in found if files.modified_at(name) <= before)
    return count
