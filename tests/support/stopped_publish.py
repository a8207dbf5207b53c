"""Publishes a folder and stops for ever before a chosen write: a process for a test to kill.

Arguments: the folder that holds ``folder``, ``store`` and ``catalog.db``; the number of the write, from 1 on. It writes
a line to standard output when it has come there.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from imgsyncfs.tools.publish.journal import Journal
from support.publishing import open_place


def main() -> None:
    """Publish until the chosen write."""
    folder, stop_at = Path(sys.argv[1]), int(sys.argv[2])

    def before_write(number: int) -> None:
        if number == stop_at:
            sys.stdout.write("stopped\n")
            sys.stdout.flush()
            threading.Event().wait()

    with open_place(folder) as place, Journal(folder / "journal") as journal:
        place.store.before_write = before_write
        place.publish(journal=journal)


if __name__ == "__main__":
    main()
