"""Syncs a place into a folder and kills itself: a process for a test.

Arguments: the place's folder; the target; after how many copied files to kill; how many seconds later.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

from imgsyncfs.tools.sync.run import sync
from support.publishing import DATASET
from support.syncing import open_library


def main() -> None:
    """Sync until killed."""
    folder, target, most_files, delay = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    count = 0

    def copied(_: int) -> None:
        nonlocal count
        count += 1
        if count == most_files:
            threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()

    with open_library(folder, siblings=("labelme",)) as library:
        sync(library, target, datasets=[DATASET], copied=copied)


if __name__ == "__main__":
    main()
