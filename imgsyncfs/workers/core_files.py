"""No core files of processes that have passwords, keys and other people's images in memory."""

from __future__ import annotations

import resource


def write_no_core_files() -> None:
    """Have this process and those it starts write no core file when they crash, whatever the system's default is.

    Only the soft limit is lowered: whoever looks for a fault has a core file again after
    ``prlimit --core=unlimited --pid PROCESS``. The process stays dumpable (prctl(2)): its user may look into it with a
    debugger, and may read the same secrets where they came from; and mounts hand on files as ``/proc/PROCESS/fd``.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
