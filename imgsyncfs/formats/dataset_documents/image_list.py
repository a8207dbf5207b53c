"""What is labelled in each image, ``images.csv``: a line for each image, to read, to `grep` and for spreadsheets.

It needs no library. What it says in words (``face=3;person=1``) the tables of parquet say column by column.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from imgsyncfs.annotations.house_format import (
    Annotation,
    ClassificationLabel,
    Label,
    ObjectLabel,
    RegressionLabel,
)
from imgsyncfs.formats.dataset_documents.contract import CHUNK_BYTES, DatasetDocument, DocumentEntry, LossTally

COLUMNS = ("path", "split", "label_version", "label_checked", "width", "height", "objects", "classes", "values")
"""Path from the mount's root on; ``classes`` with the number of objects of each; ``values`` of the image as a whole."""


class ImageList(DatasetDocument):
    """The list ``images.csv`` (RFC 4180, UTF-8, a heading).

    Args:
        label_version: the dataset's.
    """

    def __init__(self, label_version: str) -> None:
        self._label_version = label_version

    def chunks(
        self,
        entries: Iterable[DocumentEntry],
        classes: Sequence[str],  # noqa: ARG002 - classes have their names here
        losses: LossTally,  # noqa: ARG002 - it stands beside the table of annotations, which has what is missing here
    ) -> Iterator[bytes]:
        """Write the list; see `DatasetDocument.chunks`."""
        text = io.StringIO()
        lines = csv.writer(text)
        lines.writerow(COLUMNS)
        for entry in entries:
            lines.writerow(_line(entry, self._label_version))
            if text.tell() >= CHUNK_BYTES:
                yield _taken(text)
        yield _taken(text)


def _taken(text: io.StringIO) -> bytes:
    """What stands in a buffer, which is empty after it."""
    content = text.getvalue()
    text.seek(0)
    text.truncate()
    return content.encode(errors="backslashreplace")


def _line(entry: DocumentEntry, label_version: str) -> tuple[object, ...]:
    """The cells of an image; those of a size that nobody knows are empty."""
    annotation = entry.annotation or Annotation()
    counts = Counter(
        item.class_name for label in annotation.labels if isinstance(label, ObjectLabel) for item in label.objects
    )
    height, width = entry.size
    return (
        f"{entry.image.dataset}/{entry.image.file_name}",
        entry.split,
        label_version,
        int(annotation.label_checked == 1),
        width,
        height,
        counts.total(),
        ";".join([f"{name}={count}" for name, count in sorted(counts.items())]),
        ";".join(_values(annotation.labels)),
    )


def _values(labels: Iterable[Label]) -> list[str]:
    """What labels say of the image as a whole."""
    return [
        f"{label.label_name}={label.label}"
        for label in labels
        if isinstance(label, ClassificationLabel | RegressionLabel)
    ]
