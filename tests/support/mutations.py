"""Hypothesis strategies for documents that were valid once: changed at random places, by whole words or by bytes.

A word is a number, a text in quotation marks, a name, or a mark. Put for one another they leave most of a document as
it was, so that what reads it comes far.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("IMGSYNCFS_FUZZ_EXAMPLES") or os.environ.get("IMGSYNCFS_EXAMPLES", "100"))
"""Documents that each parser gets; few on other versions of Python, as of all property tests."""

MOST_SECONDS = 10.0
"""Of the processor's time for one document of some kilobytes: hundreds of times what it takes."""

MOST_CHANGES = 6

fuzzed = settings(deadline=None, max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))

_WORD = re.compile(rb'"(?:[^"\\]|\\.)*"|-?\d[\w.+-]*|[A-Za-z_]\w*|\s+|.', re.DOTALL)

NUMBERS = (
    *b"0 -0 -1 1 2 7 1.5 0.1 1e5 1e9 1e16 1e308 -1e308 1e999 5e-324 NaN nan Infinity -inf 0x10 1_000 --1 1.2.3".split(),
    *b"16384 65537 2147483648 4294967296 9223372036854775807 9223372036854775808 18446744073709551616".split(),
    b"9" * 400,
    b"9" * 5000,
    "٣".encode(),
)
VALUES = (
    *rb'null true false [] {} "" "\ud800" "\u0000" "a" [[]] [null] {"a":1} [1,2] [[1,2],[3,4]] [0,1,2,3]'.split(),
    b'"\xff"',
    b"[" * 300 + b"]" * 300,
    b'"' + b"a" * 5000 + b'"',
)
MARKS = (
    *rb"< > </ & &a; &#0; &#x41; { } [ ] : , ; = ' \ / %00 % @ # ? .. <!-- --> <![CDATA[ ]]> <!DOCTYPE <?xml".split(),
    *(b"", b'"', b" ", b"\n", b"\r\n", b"\0", b"\xff", b"\xef\xbb\xbf", b"\xc3", b"\x85", "\u2028".encode()),
)
WORDS = (*NUMBERS, *VALUES, *MARKS)


@st.composite
def mutated(draw: st.DrawFn, documents: Sequence[bytes]) -> bytes:
    """A document that was changed at some places.

    Args:
        draw: given by Hypothesis.
        documents: valid ones.
    """
    content = draw(st.sampled_from(documents))
    words = _WORD.findall(content)
    for _ in range(draw(st.integers(1, MOST_CHANGES))):
        if not words:
            break
        place = draw(st.integers(0, len(words) - 1))
        change = draw(st.sampled_from(["put", "put", "put", "swap", "insert", "remove", "repeat", "cut", "byte"]))
        if change == "put":
            word = words[place]
            is_number = word[:1].isdigit() or (word[:1] == b"-" and len(word) > 1)
            words[place] = draw(st.sampled_from(NUMBERS if is_number else WORDS))
        elif change == "swap":
            other = draw(st.integers(0, len(words) - 1))
            words[place], words[other] = words[other], words[place]
        elif change == "insert":
            words.insert(place, draw(st.one_of(st.sampled_from(WORDS), st.binary(max_size=4))))
        elif change == "remove":
            del words[place : place + draw(st.integers(1, 20))]
        elif change == "repeat":
            words[place:place] = words[place : place + draw(st.integers(1, 60))]
        elif change == "cut":
            del words[place:]
        else:
            at = draw(st.integers(0, len(words[place]) - 1)) if words[place] else 0
            words[place] = words[place][:at] + draw(st.binary(min_size=1, max_size=1)) + words[place][at + 1 :]
    return b"".join(words)


def mutated_texts(documents: Sequence[str]) -> st.SearchStrategy[str]:
    """Likewise of texts; what is no UTF-8 is as Python has it in arguments."""
    return mutated([each.encode() for each in documents]).map(lambda content: content.decode(errors="surrogateescape"))


@contextmanager
def within_time() -> Iterator[None]:
    """What is done takes no longer than anything may that a reader waits for."""
    begun = time.thread_time()
    yield
    assert time.thread_time() - begun < MOST_SECONDS, "it takes too long"
