"""The kernel's protocol: the answer to INIT, and messages that say their own length."""

from __future__ import annotations

import pytest

from imgsyncfs.library.nodes import DIRECTORY_MODE, FILE_MODE, Attributes, Owner
from imgsyncfs.mount import protocol
from imgsyncfs.mount.protocol import Limits, init_answer


def request(major: int = 7, minor: int = 38, flags: int = 0xFFFFFFFF) -> bytes:
    body = protocol.INIT_IN.pack(major, minor, 1 << 17, flags)
    return protocol.IN_HEADER.pack(len(body) + protocol.IN_HEADER.size, protocol.INIT, 7, 0, 0, 0, 0, 0, 0) + body


def test_of_what_the_kernel_offers_only_what_is_wanted_is_taken() -> None:
    message, flags = init_answer(request(), Limits(max_background=9))
    assert flags == protocol.WANTED
    length, error, unique = protocol.OUT_HEADER.unpack_from(message)
    assert (length, error, unique) == (len(message), 0, 7)
    values = protocol.INIT_OUT.unpack_from(message, protocol.OUT_HEADER.size)
    assert values[:5] == (7, 31, 1 << 17, protocol.WANTED, 9)


@pytest.mark.parametrize("lacking", [protocol.NO_OPEN_SUPPORT, protocol.NO_OPENDIR_SUPPORT])
def test_a_kernel_that_must_be_told_of_every_open_is_refused(lacking: int) -> None:
    with pytest.raises(OSError, match="FUSE"):
        init_answer(request(flags=0xFFFFFFFF & ~lacking), Limits())


@pytest.mark.parametrize(("major", "minor"), [(6, 40), (8, 0), (7, 27)])
def test_another_protocol_is_refused(major: int, minor: int) -> None:
    with pytest.raises(OSError, match="FUSE"):
        init_answer(request(major, minor), Limits())


def test_answers_say_their_own_length() -> None:
    attributes = Attributes(FILE_MODE, 1000, -5)
    for message in (
        protocol.answer(3, b"content"),
        protocol.refusal(3, 5),
        protocol.attr_answer(3, 9, attributes, Owner(1, 2)),
        protocol.entry_answer(3, 9, attributes, Owner(1, 2)),
        protocol.absence_answer(3),
        protocol.statfs_answer(3, total_bytes=1, files=2),
        protocol.entry_notification(1, b"name"),
        protocol.inode_notification(1),
    ):
        assert protocol.OUT_HEADER.unpack_from(message)[0] == len(message)


def test_directory_entries_are_aligned_and_name_their_kind() -> None:
    for length in range(1, 20):
        entry = protocol.directory_entry(5, 6, b"x" * length, DIRECTORY_MODE)
        assert len(entry) % 8 == 0
        assert protocol.DIRENT.unpack_from(entry) == (5, 6, length, 4)
        assert entry[protocol.DIRENT.size :].rstrip(b"\0") == b"x" * length
