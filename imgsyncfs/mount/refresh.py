"""Keep a mount up to date with its catalog: ask at an interval, and take over the changes.

Threads: one thread of its own, which alone changes the namespace and notifies the kernel. `Refresher._lock` guards who
has asked for a refresh.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from imgsyncfs.errors import CatalogError, ConfigurationError
from imgsyncfs.library.error_log import ErrorLog, kind_of

logger = logging.getLogger(__name__)


class Refresher:
    """The thread that keeps a mount up to date.

    Args:
        refresh: asks the catalog, and takes over what has changed; is told whether somebody waits for that.
        errors: gets what went wrong.
        interval: seconds between two questions to the catalog.
    """

    def __init__(self, refresh: Callable[[bool], None], errors: ErrorLog, *, interval: float) -> None:
        self._refresh = refresh
        self._errors = errors
        self._interval = interval
        self._lock = threading.Lock()
        self._asked: list[Callable[[str], None]] = []
        self._wake = threading.Event()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="refresh", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def soon(self) -> None:
        """Ask now, without waiting for the interval to end."""
        self._wake.set()

    def now(self, done: Callable[[str], None]) -> None:
        """Ask now, and tell when what has changed was taken over.

        Args:
            done: called on the thread with why the catalog could not be asked, empty if it was.
        """
        with self._lock:
            self._asked.append(done)
        self._wake.set()

    def close(self) -> None:
        """End the thread; a request in flight is not waited for."""
        self._ending.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(1.0)

    def _run(self) -> None:
        while True:
            surely = self._wake.wait(self._interval)
            self._wake.clear()
            if self._ending.is_set():
                return
            # Who asks from here on wants to know of later changes.
            with self._lock:
                asked, self._asked = self._asked, []
            trouble = self._try(surely)
            for done in asked:
                done(trouble)

    def _try(self, surely: bool) -> str:
        """Ask, and take over; returns why that could not be done, empty if it was."""
        try:
            self._refresh(surely)
        except (CatalogError, ConfigurationError) as error:
            self._errors.report(f"The catalog could not be asked for changes: {error}", kind=kind_of(type(error)))
            return str(error)
        except Exception:
            logger.exception("The refresh failed; the mount goes on with what it knows.")
            return "the refresh failed; the mount's log says why"
        return ""
