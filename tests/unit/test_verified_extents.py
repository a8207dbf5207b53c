"""An extent is verified by one of the processes that come to it, and the others take its word."""

from __future__ import annotations

import threading

from imgsyncfs.cache import VERIFIED_BYTES, VerifiedExtents
from imgsyncfs.cache.verified import CLAIM_SECONDS


def two(claim_seconds: float = CLAIM_SECONDS) -> tuple[VerifiedExtents, VerifiedExtents]:
    """Those of two processes."""
    memory = memoryview(bytearray(VERIFIED_BYTES))
    return VerifiedExtents(memory, claim_seconds), VerifiedExtents(memory, claim_seconds)


def test_what_one_has_verified_the_other_need_not() -> None:
    one, other = two()
    assert not other.has("a")
    one.note("a")
    assert other.has("a")
    assert not other.has("b")


def test_who_comes_while_another_verifies_waits_for_its_word() -> None:
    one, other = two(claim_seconds=60)
    one.claim("a")
    assert not other.has("a")
    waiting = threading.Timer(0.002, one.note, ["a"])
    waiting.start()
    assert other.wait_for("a")
    waiting.join()


def test_nobody_waits_for_one_who_never_finishes() -> None:
    one, other = two()
    one.claim("a")
    assert not other.wait_for("a")


def test_nobody_waits_where_nobody_verifies() -> None:
    one, other = two()
    one.claim("a")
    assert not other.wait_for("b")
