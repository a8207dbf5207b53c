"""The gallery's scripts, read as its pages read them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from imgsyncfs.formats.dataset_documents.contract import DatasetDocument, DocumentEntry, LossTally
from imgsyncfs.formats.gallery.shapes import GalleryShapes
from imgsyncfs.formats.gallery.summary import GallerySummary

_CALL = re.compile(rb"imgsyncfsGallery\.(\w+)\((.*?)\);\n", re.DOTALL)


@dataclass(frozen=True)
class Row:
    """What the summary says of one image; `pairs` have the keys themselves in place of their numbers."""

    file: str
    state: int
    objects: int
    pairs: dict[tuple[str, int], float]


def script(document: DatasetDocument, entries: Iterable[DocumentEntry], classes: Iterable[str] = ()) -> bytes:
    """A script of these entries; nothing may be left out of it."""
    losses = LossTally()
    content = b"".join(document.chunks(list(entries), tuple(classes), losses))
    assert losses.losses == ()
    return content


def calls(content: bytes) -> list[tuple[str, Any]]:
    """(name, arguments) of each call of a script, which holds nothing else."""
    found = [(name.decode(), orjson.loads(b"[%b]" % arguments)) for name, arguments in _CALL.findall(content)]
    assert _CALL.sub(b"", content) == b""
    return found


def shapes(*entries: DocumentEntry) -> dict[str, Any]:
    """What is drawn of images."""
    [(name, [run])] = calls(script(GalleryShapes(0), entries))
    assert name == "shapes"
    return dict(run)


def summary(*entries: DocumentEntry, classes: Iterable[str] = ()) -> tuple[list[Row], dict[str, Any]]:
    """The rows of images, and what is known of all."""
    *blocks, (name, [known]) = calls(script(GallerySummary(), entries, classes))
    assert name == "summary"
    keys = [(text, kind) for text, kind, _ in known["keys"]]
    rows: list[Row] = []
    before = ""
    for block, (first, flat) in blocks:
        assert (block, first) == ("rows", len(rows))
        values = iter(flat)
        for shared in values:
            # JavaScript counts units of UTF-16.
            kept = before.encode("utf-16-le")[: 2 * shared].decode("utf-16-le")
            before = kept + next(values)
            state, objects, count = next(values), next(values), next(values)
            pairs = {keys[next(values)]: next(values) for _ in range(count)}
            rows.append(Row(before, state, objects, pairs))
    return rows, known
