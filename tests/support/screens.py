"""Screens for programs with windows, and what stands on them."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator


@contextlib.contextmanager
def screen() -> Iterator[str]:
    """The name of a screen that is in memory alone."""
    reading, writing = os.pipe()
    with os.fdopen(reading) as told:
        server = subprocess.Popen(
            ["Xvfb", "-displayfd", str(writing), "-screen", "0", "1280x1024x24", "-nolisten", "tcp"],
            pass_fds=[writing],
            stderr=subprocess.DEVNULL,
        )
        os.close(writing)
        try:
            yield f":{int(told.readline())}"
        finally:
            server.terminate()
            server.wait()


def window_titles(display: str) -> list[str]:
    """The titles of the windows on a screen."""
    tree = subprocess.run(
        ["xwininfo", "-root", "-tree", "-display", display], capture_output=True, text=True, check=True
    )
    return re.findall(r'^ +0x[0-9a-f]+ "(.*)": ', tree.stdout, re.MULTILINE)
