"""A mount that is stopped and then ended by force: a process for a test, as another user.

Argument: a folder that can be written to. An AssertionError says what is not as it should be.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from support.mounting import demo_workplace, is_running, process_ids


def main() -> None:
    """Mount, stop all of its processes, see what the commands say, and end it by force."""
    workplace = demo_workplace(Path(sys.argv[1]))
    with workplace.mounted() as mountpoint:
        processes = process_ids(mountpoint)
        for process in processes:
            os.kill(process, signal.SIGSTOP)
        said = workplace.run("status", mountpoint, status=1, seconds=20).stderr
        assert f"kill -CONT {processes[0]}" in said, said
        workplace.run("umount", "--force", mountpoint, seconds=20)
        assert not any(map(is_running, processes)), "processes are left"
        assert f" {mountpoint} " not in Path("/proc/self/mountinfo").read_text(), "the mount is still there"
    print(os.getuid())


if __name__ == "__main__":
    main()
