"""The split of an image: train, validation or test, the same for ever and for everyone.

A split is decided by the hash of the image's **group**, so that neighbouring frames of one camera never stand on two
sides. It depends on nothing else: not on other images, their order, the dataset or the machine. Images that are added
move no other, and a copy of an image in another dataset is on the same side there.

The hash is BLAKE2b (RFC 7693) of the group's UTF-8, 8 bytes, big-endian: a number below 2^64. The weights cut these
numbers into three ranges, train first, then validation, then test. `tests/unit/test_splits.py` holds values of it: they
may never change.

Without an expression the group of a stem is the stem without its trailing number, and that number divided by 100
(``cam1_00279`` is in the group ``cam1_2``); a stem without a number is its own group. With an expression it is what its
first group matched, or all that it matched if it has none; a stem in which it matches nothing is its own group.

Expressions come from users and from catalogs, and Python's matcher can take years over some of them. Only those are
taken that cannot: `_check_expression` says which. All names together have a time limit beside that.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from hashlib import blake2b

from imgsyncfs.errors import ConfigurationError

LONGEST_EXPRESSION = 200
"""Characters of an expression for groups."""

LONGEST_STEM = 255
"""Characters of a stem that an expression looks at: no file name has more bytes."""

LARGEST_WEIGHT = 10**9

_HASH_BYTES = 8
_DIGITS = "0123456789"
_GROUP_DIGITS = 2  # 100 frames a group
_WEIGHTS = re.compile(r"\s*(\d{1,10})\s*/\s*(\d{1,10})\s*/\s*(\d{1,10})\s*", re.ASCII)

_PIECE = re.compile(
    r"""
    \)(?P<optional>\?\??)?
    | (?P<bar>\|)
    | \((?:\?(?::|P<[A-Za-z_]\w*>))?(?!\?)
    | (?:(?P<edge>[\^$])
        | (?:
            [^\\\[\](){}|*+?^$]
            | \\[dDsSwW] | \\[^0-9A-Za-z\n]
            | \[\^?\]?(?:(?!--|&&|\|\||~~)[^\[\]\\\n]|\\[dDsSwW]|\\[^0-9A-Za-z\n])*\]
        ))
      (?P<times>[*+?]|\{\d{1,3}(?:,(?:\d{1,3})?)?\})?(?P<lazy>\?)?
    """,
    re.VERBOSE | re.ASCII,
)
_MOST_WAYS = 256**4
"""Of matching one expression in one stem: one or two seconds, since most of them meet their end early."""

_SECONDS_AT_FIRST = 5.0
_SECONDS_PER_STEM = 2e-4


class Split(IntEnum):
    """The three sides of a dataset; `str` of one is its name."""

    TRAIN = 0
    VALIDATION = 1
    TEST = 2

    def __str__(self) -> str:
        return self.name.lower()


@dataclass(frozen=True)
class SplitRule:
    """How the images of a dataset are divided.

    Attributes:
        weights: of train, validation and test; whole numbers, their sum above 0.
        group_by: a regular expression for the group; ``""`` for the usual groups.
    """

    weights: tuple[int, int, int] = (80, 10, 10)
    group_by: str = ""

    @property
    def weights_text(self) -> str:
        """The weights as users write them, for example ``80/10/10``."""
        return "/".join(map(str, self.weights))


def make_rule(weights: str, group_by: str = "") -> SplitRule:
    """Read a rule.

    Args:
        weights: three whole numbers, for example ``80/10/10``.
        group_by: a regular expression for the group of a stem; ``""`` for the usual groups.

    Raises:
        ConfigurationError: the weights are no such numbers, or the expression cannot be taken; the message says why.
    """
    found = _WEIGHTS.fullmatch(weights)
    if found is None:
        raise ConfigurationError(
            f"{weights!r:.60} are no weights of train, validation and test; write for example 80/10/10."
        )
    train, validation, test = map(int, found.groups())
    if not 0 < train + validation + test <= LARGEST_WEIGHT:
        raise ConfigurationError(
            f"The weights {weights.strip()} add up to {train + validation + test}; write for example 80/10/10."
        )
    if group_by:
        _check_expression(group_by)
    return SplitRule((train, validation, test), group_by)


def group_of(stem: str, expression: re.Pattern[str] | None = None) -> str:
    """The group of an image.

    Args:
        stem: the image's file name without its extension.
        expression: made by `compiled`; None for the usual groups.
    """
    if expression is None:
        head = stem.rstrip(_DIGITS)
        if head == stem:
            return stem
        return head + (stem[len(head) : -_GROUP_DIGITS].lstrip("0") or "0")
    found = expression.search(stem, 0, LONGEST_STEM)
    if found is None:
        return stem
    # A group that took no part in the match.
    return found[1 if expression.groups else 0] or stem


def compiled(rule: SplitRule) -> re.Pattern[str] | None:
    """The expression of a rule, None if it has none; raises `ConfigurationError` if it cannot be taken."""
    return _check_expression(rule.group_by) if rule.group_by else None


def splitter(rule: SplitRule) -> Callable[[str], Split]:
    """Make a function that says the split of a stem.

    Args:
        rule: of the dataset.

    Returns:
        A function that is quickest when neighbours follow each other.

    Raises:
        ConfigurationError: the rule's expression cannot be taken.
    """
    expression = compiled(rule)
    total = sum(rule.weights)
    # Whole numbers, so that a hash lies on the same side of an edge on every machine.
    to_validation = rule.weights[0] << 8 * _HASH_BYTES
    to_test = to_validation + (rule.weights[1] << 8 * _HASH_BYTES)
    last_group, last_split = "", _side(group_hash("") * total, to_validation, to_test)

    def split_of(stem: str) -> Split:
        nonlocal last_group, last_split
        group = group_of(stem, expression)
        if group != last_group:
            last_group, last_split = group, _side(group_hash(group) * total, to_validation, to_test)
        return last_split

    return split_of


def split_stems(rule: SplitRule, stems: Iterable[str]) -> list[Split]:
    """The splits of many images, some seconds for a million of them.

    Args:
        rule: of the dataset.
        stems: file names without extensions, in any order.

    Returns:
        A split for each, in the order of `stems`.

    Raises:
        ConfigurationError: the rule's expression cannot be taken, or takes too long over these names.
    """
    split_of = splitter(rule)
    if not rule.group_by:
        return [*map(split_of, stems)]
    splits: list[Split] = []
    started = time.monotonic()
    for stem in stems:
        splits.append(split_of(stem))
        if time.monotonic() - started > _SECONDS_AT_FIRST + _SECONDS_PER_STEM * len(splits):
            raise ConfigurationError(
                f"The expression {rule.group_by!r} takes too long over names like {stem!r}; begin it with ^, and use "
                "fewer of * and +."
            )
    return splits


@dataclass(frozen=True)
class SplitCount:
    """What a rule puts on one side.

    Attributes:
        images: their number.
        groups: number of groups that these are in.
    """

    images: int
    groups: int


def count_splits(rule: SplitRule, stems: Iterable[str]) -> dict[Split, SplitCount]:
    """Count what a rule puts on each side; see `split_stems`.

    Args:
        rule: of the dataset.
        stems: file names without extensions, each once.
    """
    names = list(stems)
    expression = compiled(rule)
    images, groups = Counter[Split](), Counter[Split]()
    seen: set[str] = set()
    for stem, split in zip(names, split_stems(rule, names), strict=True):
        images[split] += 1
        group = group_of(stem, expression)
        if group not in seen:
            seen.add(group)
            groups[split] += 1
    return {split: SplitCount(images[split], groups[split]) for split in Split}


def group_hash(group: str) -> int:
    """The number below 2^64 that decides on a group's split."""
    digest = blake2b(group.encode(errors="surrogatepass"), digest_size=_HASH_BYTES).digest()
    return int.from_bytes(digest, "big")


def _side(place: int, to_validation: int, to_test: int) -> Split:
    return Split.TRAIN if place < to_validation else Split.VALIDATION if place < to_test else Split.TEST


def _check_expression(text: str) -> re.Pattern[str]:
    r"""Compile an expression for groups, if no name can keep the matcher busy for long.

    A part is repeated only if it is one character or one class of characters: ``(a+)+`` and its like take for ever. No
    references, no looking around, no possessive parts. The ways to match what remains are counted, 256 for each ``*``
    or ``+`` and for the places where a match may begin, and limited. Classes like ``\d`` are ASCII's, since what
    Unicode calls a digit differs between versions of Python.

    Raises:
        ConfigurationError: it is none of these.
    """
    if len(text) > LONGEST_EXPRESSION:
        raise _refused(text, f"it has {len(text)} characters, more than {LONGEST_EXPRESSION}; shorten it")
    ways = 1 if text.startswith("^") and "|" not in text else LONGEST_STEM + 1
    place = 0
    while place < len(text):
        piece = _PIECE.match(text, place)
        if piece is None or (piece["edge"] and piece["times"]) or (piece["lazy"] and not piece["times"]):
            raise _refused(
                text,
                f"what stands at {text[place : place + 10]!r} is not taken here: *, + and {{}} follow a character or a "
                "[class], groups are ( ) or (?: ), and nothing refers or looks elsewhere",
            )
        ways *= 2 if piece["bar"] or piece["optional"] else _times(piece["times"] or "", text)
        place = piece.end()
    if ways > _MOST_WAYS:
        raise _refused(text, "it could match in too many ways; begin it with ^, and use fewer of *, + and |")
    try:
        return re.compile(text, re.ASCII)
    except (re.error, OverflowError) as error:
        raise _refused(text, f"{error}; correct it") from error


def _times(quantifier: str, text: str) -> int:
    """How many lengths a quantifier allows, as far as they fit into a stem."""
    if not quantifier:
        return 1
    if quantifier in "*+":
        return LONGEST_STEM + 1
    if quantifier == "?":
        return 2
    least, comma, most = quantifier[1:-1].partition(",")
    if max(int(least), int(most or 0)) > LONGEST_STEM:
        raise _refused(text, f"{quantifier} is more than the {LONGEST_STEM} characters of the longest name; lower it")
    if not comma:
        return 1
    return max(1, int(most or LONGEST_STEM) - int(least) + 1)


def _refused(text: str, reason: str) -> ConfigurationError:
    return ConfigurationError(f"The expression {text!r:.80} cannot say the group of an image: {reason}.")
