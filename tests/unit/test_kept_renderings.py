"""What one process has rendered, another one finds; what does not fit its digest, nobody takes."""

from __future__ import annotations

import pytest

from imgsyncfs.library.kept_renderings import SHARED_BYTES, KeptRenderings, SharedRenderings

CONTENT = bytes(range(256)) * 40


@pytest.fixture
def memory() -> memoryview:
    return memoryview(bytearray(SHARED_BYTES))


def test_what_one_keeps_the_other_finds(memory: memoryview) -> None:
    SharedRenderings(memory).put("a/1/labelme", CONTENT)
    assert SharedRenderings(memory).get("a/1/labelme") == CONTENT
    assert SharedRenderings(memory).get("a/2/labelme") is None


def test_nothing_is_found_in_memory_that_nobody_wrote_to(memory: memoryview) -> None:
    assert SharedRenderings(memory).get("a/1/labelme") is None


def test_one_that_was_half_overwritten_is_not_found(memory: memoryview) -> None:
    SharedRenderings(memory).put("a/1/labelme", CONTENT)
    place = memory.tobytes().index(CONTENT)
    memory[place + len(CONTENT) // 2] ^= 1
    assert SharedRenderings(memory).get("a/1/labelme") is None


def test_one_too_large_for_its_place_is_kept_by_whoever_rendered_it(memory: memoryview) -> None:
    large = CONTENT * 10
    mine = SharedRenderings(memory)
    mine.put("a/1/labelme", large)
    assert mine.get("a/1/labelme") == large
    assert SharedRenderings(memory).get("a/1/labelme") is None


def test_a_process_keeps_its_own() -> None:
    kept = KeptRenderings()
    kept.put("a/1/labelme", CONTENT)
    assert kept.get("a/1/labelme") == CONTENT
    assert kept.get("a/1/xml") is None
