"""Memory that is kept: nobody gets what somebody else may still write into."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from imgsyncfs.stores.buffers import BUFFER_BYTES, MOST_KEPT, KeptBuffers


def test_two_who_need_memory_at_once_get_different_pieces() -> None:
    buffers = KeptBuffers()

    with buffers.borrow(5) as one, buffers.borrow(5) as other:
        one[:] = b"first"
        other[:] = b"other"
        assert bytes(one) == b"first"


def test_memory_is_used_again_when_nobody_needs_it_any_more() -> None:
    buffers = KeptBuffers()
    with buffers.borrow(5) as buffer:
        buffer[:] = b"first"

    with buffers.borrow(3) as buffer:
        assert bytes(buffer) == b"fir"


def test_memory_is_not_used_again_after_an_error_for_another_thread_may_still_write_into_it() -> None:
    buffers = KeptBuffers()

    def fail(buffer: memoryview) -> None:
        buffer[:] = b"first"
        raise ValueError("read")

    with pytest.raises(ValueError, match="read"), buffers.borrow(5) as buffer:
        fail(buffer)

    with buffers.borrow(5) as buffer:
        assert bytes(buffer) == bytes(5)


@pytest.mark.parametrize("byte_count", [0, 1, BUFFER_BYTES, BUFFER_BYTES + 1])
def test_as_much_memory_is_given_as_was_asked_for(byte_count: int) -> None:
    with KeptBuffers().borrow(byte_count) as buffer:
        assert len(buffer) == byte_count


def test_only_so_many_pieces_are_kept() -> None:
    buffers = KeptBuffers()
    with ExitStack() as stack:
        for _ in range(MOST_KEPT + 1):
            stack.enter_context(buffers.borrow(1))[:] = b"x"

    with ExitStack() as stack:
        used_again = [bytes(stack.enter_context(buffers.borrow(1))) for _ in range(MOST_KEPT + 1)]

    assert sorted(used_again) == [b"\0"] + [b"x"] * MOST_KEPT
