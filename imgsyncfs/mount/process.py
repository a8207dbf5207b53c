"""The start of the process behind a mount.

`imgsyncfs.mount.launch` starts ``python -m imgsyncfs.mount.process``, which gets its settings in a frame on standard
input; ``mount --foreground`` calls `serve_mount` itself. A mount must be usable within a second, on a busy machine too:
what all its processes need is imported once, before the template is forked of this process. From then on each import is
made while another process does something: the worker reads the catalog and the template imports what responders need,
while this process imports `imgsyncfs.mount.daemon`. Since it is a fresh process and not a fork of the command, it may
make threads and pipes before it mounts.
"""

from __future__ import annotations

import importlib
import logging
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

from imgsyncfs.library.modules import CATALOG_MODULES
from imgsyncfs.workers.core_files import write_no_core_files
from imgsyncfs.workers.forking import Template
from imgsyncfs.workers.frames import read_frame, write_frame

if TYPE_CHECKING:
    from imgsyncfs.settings.mount import MountSettings

logger = logging.getLogger(__name__)

SHARED_MODULES = ("imgsyncfs.library.library", "imgsyncfs.library.processes")
"""What this process and all that are forked of the template need."""

RESPONDER_MODULES = ("imgsyncfs.mount.responder", "imgsyncfs.catalog.listing", "imgsyncfs.annotations.house_format")
"""What responders need beside the formats."""


def serve_mount(
    settings: MountSettings,
    template: Template | None = None,
    *,
    ready: Callable[[Sequence[str]], None],
    ending: Callable[[], None] = lambda: None,
) -> None:
    """Mount, answer until the mount ends, and leave nothing behind. Runs on the main thread.

    Args:
        settings: what to mount, where and how.
        template: as for `imgsyncfs.library.processes.start_workers`.
        ready: called with warnings when the mount can be used: a catalog or a store cannot be reached.
        ending: called when the mount begins to end.

    Raises:
        ImgsyncfsError: it cannot be mounted, and why.
    """
    write_no_core_files()
    # Late, as the next one: see above.
    from imgsyncfs.library.processes import start_workers

    with ExitStack() as stack:
        if settings.is_cache_temporary:
            stack.callback(shutil.rmtree, settings.library.cache_dir, ignore_errors=True)
        workers = start_workers(settings.library, stack, template)
        workers.template.import_ahead(RESPONDER_MODULES)
        from imgsyncfs.mount.daemon import run

        run(settings, workers, ready=ready, ending=ending)


def main() -> None:
    """Run as a process of its own: settings come on standard input, the result goes to standard output."""
    output = os.fdopen(os.dup(1), "wb")
    # A format of another package that prints when it is imported does it where log lines go.
    os.dup2(2, 1)
    for module in SHARED_MODULES:
        importlib.import_module(module)
    with closing(Template(CATALOG_MODULES, of_this_process=True)) as template:
        # Late: see above.
        from imgsyncfs.errors import ImgsyncfsError
        from imgsyncfs.settings.mount import MountSettings
        from imgsyncfs.workers.process import describe_error

        first = read_frame(sys.stdin.buffer)
        if first is None:
            return
        settings = MountSettings.from_frame(first[0])
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")

        def ready(warnings: Sequence[str]) -> None:
            # Its own session: closing the terminal, or Ctrl-C for the next command, is not meant for the mount. Not
            # sooner: while autofs has a place mounted, all but its own process group wait for that.
            os.setsid()
            write_frame(output, {"warnings": list(warnings)})
            output.close()

        try:
            serve_mount(settings, template, ready=ready)
        except ImgsyncfsError as error:
            logger.error("%s", error)  # noqa: TRY400  # the sentence says it; a traceback is for surprises
            if not output.closed:
                write_frame(output, {"error": describe_error(error)})
            raise SystemExit(1) from None
        logger.info("The mount at %s has ended.", settings.mountpoint)


if __name__ == "__main__":
    main()
