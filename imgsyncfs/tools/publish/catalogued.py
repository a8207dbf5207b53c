"""The annotations that a catalog has of a dataset, read from its store as they are asked for.

Publishing compares with them: what says the same keeps its place, and what a tool cannot show is taken over.

Threads: `_lock` guards `_reads` for the time of a look; an extent is read once, and all who want it wait for that.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from concurrent.futures import Future
from typing import TYPE_CHECKING

from imgsyncfs.annotations.house_format import Annotation, parse_annotation
from imgsyncfs.blob_layout import EXTENT_BYTES
from imgsyncfs.errors import AnnotationError, BlobChanged, BlobMissing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from imgsyncfs.catalog.rows import AnnotationRow
    from imgsyncfs.stores.contract import Store

KEPT_EXTENTS = 8
"""Images are checked by name, and so lie their annotations: those of a few threads are in a few extents."""


class CataloguedAnnotations:
    """Reads annotations that were published earlier.

    Args:
        store: holds them.
        rows: those there are, by the image's stem.
    """

    def __init__(self, store: Store, rows: Mapping[str, AnnotationRow]) -> None:
        self._store = store
        self._rows = rows
        self._lock = threading.Lock()
        self._reads: OrderedDict[tuple[str, int], Future[bytes]] = OrderedDict()

    def row(self, stem: str) -> AnnotationRow | None:
        """The row of an image's annotation; None if it has none."""
        return self._rows.get(stem)

    def content_name(self, stem: str) -> str:
        """Names the content of an image's annotation: another one for another content; empty if it has none."""
        row = self._rows.get(stem)
        if row is None:
            return ""
        return row.md5 or f"{row.blob} {row.blob_offset} {row.byte_count} {row.etag} {row.modified_at}"

    def read(self, stem: str) -> tuple[Annotation, bytes] | None:
        """An annotation, and its JSON; None if the image has none.

        Raises:
            AnnotationError: what lies there is not what was published; the message is the reason alone.
            StoreError: what the store says.
        """
        row = self._rows.get(stem)
        if row is None:
            return None
        try:
            content = self._content(row)
        except (BlobMissing, BlobChanged) as error:
            raise AnnotationError(str(error)) from error
        if len(content) != row.byte_count or (row.md5 and md5_of(content) != row.md5):
            raise AnnotationError(f"{row.blob} does not hold what was published")
        return parse_annotation(content), content

    def _content(self, row: AnnotationRow) -> bytes:
        # No file of a pack crosses an extent; a large one, or one of another layout, is read by itself.
        start = row.blob_offset // EXTENT_BYTES * EXTENT_BYTES
        end = row.blob_offset + row.byte_count
        if end > start + EXTENT_BYTES:
            return self._store.read(row.blob, row.blob_offset, row.byte_count, etag=row.etag)
        extent = self._extent(row.blob, start, row.etag)
        return extent[row.blob_offset - start : end - start]

    def _extent(self, blob: str, start: int, etag: str) -> bytes:
        key = (blob, start)
        with self._lock:
            read = self._reads.get(key)
            is_first = read is None
            if read is None:
                read = self._reads[key] = Future()
                if len(self._reads) > KEPT_EXTENTS:
                    self._reads.popitem(last=False)
        if is_first:
            try:
                read.set_result(self._store.read(blob, start, EXTENT_BYTES, etag=etag))
            except BaseException as error:
                read.set_exception(error)
                with self._lock:
                    self._reads.pop(key, None)
                raise
        return read.result()


def md5_of(content: bytes) -> str:
    """The digest of a file, as rows have it."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
