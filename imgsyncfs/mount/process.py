"""The start of the process behind a mount.

`imgsyncfs.mount.launch` starts ``python -m imgsyncfs.mount.process``, which gets its settings in a frame on standard
input; ``mount --foreground`` calls `serve_mount` itself. The template is started first, and asked for workers: while
they come up and read the catalog, `imgsyncfs.mount.daemon` is imported, which takes as long. Since it is a fresh
process and not a fork of the command, it may make threads and pipes before it mounts.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from imgsyncfs.errors import ImgsyncfsError
from imgsyncfs.library.processes import start_workers
from imgsyncfs.settings.mount import MountSettings
from imgsyncfs.workers.frames import read_frame, write_frame
from imgsyncfs.workers.process import describe_error

logger = logging.getLogger(__name__)

RESPONDER_MODULES = ("imgsyncfs.mount.responder", "imgsyncfs.catalog.listing", "imgsyncfs.annotations.house_format")
"""What responders need beside the formats."""


def serve_mount(settings: MountSettings, *, ready: Callable[[Sequence[str]], None]) -> None:
    """Mount, answer until the mount ends, and leave nothing behind. Runs on the main thread.

    Args:
        settings: what to mount, where and how.
        ready: called with warnings when the mount can be used: a catalog or a store cannot be reached.

    Raises:
        ImgsyncfsError: it cannot be mounted, and why.
    """
    with ExitStack() as stack:
        workers = start_workers(settings.library, stack)
        workers.template.import_ahead(RESPONDER_MODULES)
        # Late: see above.
        from imgsyncfs.mount.daemon import run

        run(settings, workers, ready=ready)


def main() -> None:
    """Run as a process of its own: settings come on standard input, the result goes to standard output."""
    first = read_frame(sys.stdin.buffer)
    if first is None:
        return
    settings = MountSettings.from_frame(first[0])
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)

    def ready(warnings: Sequence[str]) -> None:
        write_frame(output, {"warnings": list(warnings)})
        output.close()

    try:
        serve_mount(settings, ready=ready)
    except ImgsyncfsError as error:
        logger.error("%s", error)  # noqa: TRY400  # the sentence says it; a traceback is for surprises
        if not output.closed:
            write_frame(output, {"error": describe_error(error)})
        raise SystemExit(1) from None
    logger.info("The mount at %s has ended.", settings.mountpoint)


if __name__ == "__main__":
    main()
