"""Images with their annotations, kept on disk between reading and writing.

A document begins with the names of all classes, and so do numbers in their place: all annotations are read before
anything is written. They are not read twice, since somebody may edit one meanwhile. Memory does not grow with them.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from types import TracebackType

import orjson

from imgsyncfs.annotations.house_format import Annotation, dump_annotation, parse_annotation
from imgsyncfs.formats.contract import ImageInfo
from imgsyncfs.formats.dataset_documents.contract import DocumentEntry

_ONLY_SPLIT = "train"
"""A folder is not divided."""


class KeptEntries:
    """The images of a folder, in the order of their names' bytes. A context manager.

    A database without a name, in a temporary file that goes with it. Not for several threads.

    Raises:
        sqlite3.Error: the disk is full.
    """

    def __init__(self) -> None:
        self._connection = sqlite3.connect("", isolation_level=None)
        # Nothing of it outlives the process, so nothing is brought to the disk.
        self._connection.execute("PRAGMA synchronous = OFF")
        self._connection.execute("PRAGMA journal_mode = OFF")
        self._connection.execute("CREATE TABLE stems (stem BLOB PRIMARY KEY) WITHOUT ROWID")
        self._connection.execute("CREATE TABLE entries (place INTEGER PRIMARY KEY, image BLOB, annotation BLOB)")

    def add_stems(self, stems: Iterable[str]) -> int:
        """Note names of images, each as often as it comes; returns how many different ones there are."""
        rows = ((os.fsencode(stem),) for stem in stems)
        self._connection.executemany("INSERT OR IGNORE INTO stems VALUES (?)", rows)
        (count,) = self._connection.execute("SELECT COUNT(*) FROM stems").fetchone()
        return int(count)

    def stems(self) -> Iterator[str]:
        """The names in their order; entries may be put meanwhile."""
        for (stem,) in self._connection.execute("SELECT stem FROM stems ORDER BY stem"):
            yield os.fsdecode(stem)

    def put(self, image: ImageInfo, annotation: Annotation | None) -> None:
        """Keep the next image."""
        facts = [os.fsencode(image.name).hex(), image.ext, image.height, image.width, image.depth, image.orientation]
        row = (
            orjson.dumps([image.dataset, *facts, os.fsencode(image.path).hex()]),
            dump_annotation(annotation) if annotation is not None else None,
        )
        self._connection.execute("INSERT INTO entries (image, annotation) VALUES (?, ?)", row)

    def __iter__(self) -> Iterator[DocumentEntry]:
        for facts, content in self._connection.execute("SELECT image, annotation FROM entries ORDER BY place"):
            dataset, name, ext, height, width, depth, orientation, path = orjson.loads(facts)
            name, path = (os.fsdecode(bytes.fromhex(text)) for text in (name, path))
            image = ImageInfo(dataset, name, ext, height, width, depth, orientation, path)
            yield DocumentEntry(image, _ONLY_SPLIT, parse_annotation(content) if content is not None else None)

    def __enter__(self) -> KeptEntries:  # noqa: PYI034  # Self is there from Python 3.11 on
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._connection.close()
