"""The struct that `stat` is answered with."""

from __future__ import annotations

import ctypes

import fuse
from hypothesis import given
from hypothesis import strategies as st

from imgsyncfs.library.nodes import Attributes
from imgsyncfs.mount.status_struct import BLOCK_BYTES, write_status

IDS = st.integers(0, 2**32 - 1)


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**62), st.integers(-(2**40), 2**40), IDS, IDS)
def test_every_field_says_what_it_is_to_say_whatever_was_there_before(
    mode: int, size: int, modified_at: int, user: int, group: int
) -> None:
    status = fuse.c_stat()
    ctypes.memset(ctypes.addressof(status), 0xFF, ctypes.sizeof(status))

    write_status(status, Attributes(mode, size, modified_at), (user, group))

    assert (status.st_mode, status.st_size, status.st_uid, status.st_gid) == (mode, size, user, group)
    assert (status.st_nlink, status.st_blocks) == (1, -(-size // BLOCK_BYTES))
    times = (status.st_atimespec, status.st_mtimespec, status.st_ctimespec)
    assert [(each.tv_sec, each.tv_nsec) for each in times] == [(modified_at, 0)] * 3
    assert (status.st_dev, status.st_ino, status.st_rdev) == (0, 0, 0)
