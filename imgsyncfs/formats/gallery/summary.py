"""What the gallery knows of all images before it draws them, as a script: what filters and plots need.

The script calls ``imgsyncfsGallery.rows`` with the number of an image and the rows of those from there on, laid end to
end, and at last ``imgsyncfsGallery.summary`` with what is known of all. A row is

    shared, rest, state, objects, pairs, key, value, key, value, …

The image's file name is as many letters as are shared of the name before (units of UTF-16, as JavaScript counts), and
the rest. ``state`` is one of `imgsyncfs.formats.gallery.shapes.State`, ``objects`` the number of objects. There are as
many pairs as ``pairs`` says. A pair's key is a place in the summary's ``keys``, [name, kind, colour] each, its value
the number of objects of a class, 1 for a classification, and the number itself for a regression. The summary's
``counts`` are those of `imgsyncfs.formats.gallery.distributions`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from itertools import islice, takewhile
from typing import Any

from imgsyncfs.annotations.house_format import ClassificationLabel, ObjectLabel, UnknownLabel
from imgsyncfs.formats.ascii_json import encode_ascii_json
from imgsyncfs.formats.dataset_documents.contract import DatasetDocument, DocumentEntry, LossTally
from imgsyncfs.formats.gallery.distributions import Distributions
from imgsyncfs.formats.gallery.shapes import MOST_VALUE_LETTERS, State, css_colour, foreign_shape

ROWS_AT_ONCE = 500

MOST_KEYS = 1000
"""Further ones are counted together: a classification may have another text for each image."""


class Kind(IntEnum):
    """What a key of the summary stands for."""

    CLASS = 0
    CLASSIFICATION = 1
    REGRESSION = 2
    OTHERS = 3


class GallerySummary(DatasetDocument):
    """The script with what is known of all images."""

    def chunks(self, entries: Iterable[DocumentEntry], classes: Sequence[str], losses: LossTally) -> Iterator[bytes]:  # noqa: ARG002 - nothing is left out
        """Write the script; see `DatasetDocument.chunks`."""
        keys = _Keys(classes)
        distributions = Distributions()
        rows = _rows(entries, keys, distributions)
        first = 0
        while batch := list(islice(rows, ROWS_AT_ONCE)):
            flat = [value for row in batch for value in row]
            yield b"imgsyncfsGallery.rows(%d,%b);\n" % (first, encode_ascii_json(flat))
            first += len(batch)
        summary = {"keys": keys.shown(), "counts": distributions.counts()}
        yield b"imgsyncfsGallery.summary(%b);\n" % encode_ascii_json(summary)


class _Keys:
    """The places of what images are filtered by; the dataset's classes come first, in its order."""

    def __init__(self, classes: Iterable[str]) -> None:
        self._places: dict[tuple[str, Kind], int] = {}
        for name in classes:
            self.place(name, Kind.CLASS)

    def place(self, name: str, kind: Kind) -> int:
        """The place of a key; the one of all others if there are too many."""
        place = self._places.get((name, kind))
        if place is None:
            others = ("", Kind.OTHERS)
            key = (name, kind) if len(self._places) < MOST_KEYS else others
            place = self._places.setdefault(key, len(self._places))
        return place

    def shown(self) -> list[list[Any]]:
        """(name, kind, colour) of each."""
        return [[name, int(kind), css_colour(name)] for name, kind in self._places]


def _rows(entries: Iterable[DocumentEntry], keys: _Keys, distributions: Distributions) -> Iterator[list[Any]]:
    before = ""
    for entry in entries:
        name = entry.image.file_name
        shared = _shared(before, name)
        state = State.of(entry.annotation)
        pairs, objects = _pairs(entry, state, keys, distributions)
        row: list[Any] = [_units(name[:shared]), name[shared:], int(state), objects, len(pairs)]
        for pair in pairs:
            row += pair
        yield row
        before = name


def _shared(one: str, other: str) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _units(text: str) -> int:
    """The length of a text as JavaScript has it."""
    return len(text.encode("utf-16-le")) // 2


def _pairs(
    entry: DocumentEntry, state: State, keys: _Keys, distributions: Distributions
) -> tuple[list[tuple[int, float]], int]:
    """(key, value) of an image, and how many objects it has."""
    counts = Counter[int]()
    values: dict[int, float] = {}
    objects = 0
    for label in () if entry.annotation is None else entry.annotation.labels:
        if isinstance(label, ObjectLabel):
            for item in label.objects:
                place = keys.place(item.class_name, Kind.CLASS)
                counts[place] += 1
                objects += 1
                distributions.add(item, (place, state == State.CHECKED), entry.size)
        elif isinstance(label, UnknownLabel):
            drawn = foreign_shape(label)
            if drawn is not None:
                counts[keys.place(drawn[1], Kind.CLASS)] += 1
                objects += 1
        elif isinstance(label, ClassificationLabel):
            text = f"{label.label_name}: {label.label}"[:MOST_VALUE_LETTERS]
            counts[keys.place(text, Kind.CLASSIFICATION)] = 1
        else:
            values[keys.place(label.label_name, Kind.REGRESSION)] = label.label
    return [*counts.items(), *values.items()], objects
