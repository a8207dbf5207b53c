"""Every sentence of the README about what a mount does is held by tests, and no test holds one that is not there."""

from __future__ import annotations

from support.promises import README, functions_in, held, promised

PAGE = """
## Semantics

- **Read-only.** Every write
  ends in `EROFS`. (So does
  `chmod`.) Sizes, e.g. that of a sibling, are exact.
- **Times** stay.

## When something goes wrong

| cause | what | and |
| --- | --- | --- |
| a write | `EROFS` | |
| blob gone | `EIO` | it is named |

`health` is a word.

## Benchmark

Fast.
"""


def test_a_page_is_taken_apart_into_sentences_and_rows() -> None:
    assert promised(PAGE) == [
        "Read-only.",
        "Every write ends in `EROFS`.",
        "(So does `chmod`.)",
        "Sizes, e.g. that of a sibling, are exact.",
        "Times stay.",
        "a write | `EROFS`",
        "blob gone | `EIO` | it is named",
        "`health` is a word.",
    ]


def test_every_sentence_and_row_of_the_readme_has_a_test() -> None:
    table = held()
    without = [sentence for sentence in promised(README.read_text()) if not table.get(sentence)]
    assert without == [], "name the tests that hold them in tests/semantics.txt"


def test_every_sentence_that_tests_hold_is_in_the_readme() -> None:
    gone = held().keys() - {*promised(README.read_text())}
    assert gone == set(), "the README says something else now: look at their tests, and change tests/semantics.txt"


def test_every_test_that_holds_a_sentence_is_there() -> None:
    named = {name for tests in held().values() for name in tests}
    missing = {name for name in named if name.partition("::")[2] not in functions_in(name.partition("::")[0])}
    assert missing == set(), "tests/semantics.txt names them"
