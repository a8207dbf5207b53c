"""Ranges that come part by part."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from imgsyncfs.stores.buffers import RangeInParts


@given(
    content=st.binary(max_size=300), cuts=st.lists(st.integers(0, 300), max_size=12), buffer_bytes=st.integers(1, 310)
)
def test_the_parts_are_the_same_however_the_content_is_cut_on_the_way(
    content: bytes, cuts: list[int], buffer_bytes: int
) -> None:
    buffer = memoryview(bytearray(buffer_bytes))
    parts: list[bytes] = []
    whole = RangeInParts(buffer, 1000, len(content), take=lambda count: parts.append(bytes(buffer[:count])))

    places = [0, *sorted(min(cut, len(content)) for cut in cuts), len(content)]
    for start, stop in itertools.pairwise(places):
        assert (whole.offset, whole.left) == (1000 + start, len(content) - start)
        whole.put(content[start:stop])
    whole.end()

    assert parts == [content[start : start + buffer_bytes] for start in range(0, len(content), buffer_bytes)]
    assert whole.received == len(content)
