"""The interface of whole-dataset documents, what they are written from, and how their losses are counted.

A document is written as chunks of bytes, in memory that does not grow with the number of images. The same entries and
classes give the same bytes on every machine.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PureWindowsPath

from imgsyncfs.annotations.house_format import OBJECT_LABEL_TYPES, Annotation, LabelledObject, ObjectLabel, UnknownLabel
from imgsyncfs.errors import AnnotationError
from imgsyncfs.formats.contract import ImageInfo, Loss, Reading
from imgsyncfs.formats.remarks import count_losses

CHUNK_BYTES = 1 << 16
"""Chunks have about this many bytes, so that who writes them makes few calls."""

MOST_KINDS = 200
"""Kinds of losses that are told apart: some carry words out of files, and memory is to stay bounded."""


@dataclass(frozen=True)
class DocumentEntry:
    """One image as a document shows it.

    Attributes:
        image: its `path` is where it lies seen from the document; empty if it lies beside it.
        split: ``train``, ``validation`` or ``test``.
        annotation: None if the image has none: nobody has looked at it.
    """

    image: ImageInfo
    split: str
    annotation: Annotation | None

    @property
    def file_name(self) -> str:
        """The image's path seen from the document."""
        return self.image.path or self.image.file_name

    @property
    def is_unseen(self) -> bool:
        """Whether nobody has labelled the image, or looked at it and found nothing."""
        annotation = self.annotation
        return annotation is None or (annotation.label_checked != 1 and not annotation.object_count)

    @property
    def size(self) -> tuple[int | None, int | None]:
        """Height and width in pixels, None where unknown. The image's own win over the annotation's."""
        height, width = self.image.height, self.image.width
        if self.annotation is not None:
            height, width = height or self.annotation.height, width or self.annotation.width
        return height, width


class LossTally:
    """Counts what a document does not show, by kind."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], int] = {}

    def add(self, what: str, reason: str, count: int = 1) -> None:
        """Count things that are not shown.

        Args:
            what: the name of the things, in the plural.
            reason: why the document cannot show them.
            count: their number.
        """
        kind = (what, reason)
        if kind not in self._counts and len(self._counts) >= MOST_KINDS:
            kind = ("things of other kinds", "there are too many kinds to tell them apart")
        self._counts[kind] = self._counts.get(kind, 0) + count

    def add_annotation(
        self,
        annotation: Annotation,
        hidden: Iterable[tuple[str, str]],
        tool: str,
        *,
        shows_classifications: bool = False,
    ) -> None:
        """Count what is not shown of one annotation.

        Args:
            annotation: what is shown otherwise.
            hidden: (what, reason) of each thing about an object that is not shown.
            tool: the format's name in messages.
            shows_classifications: whether the format has a place for them.
        """
        for loss in count_losses(annotation.labels, hidden, tool, shows_classifications=shows_classifications):
            self.add(loss.what, loss.reason, loss.count)
        further = _further_keys(annotation)
        if further:
            self.add("keys that the house format does not know", f"{tool} has no place for them", further)

    @property
    def losses(self) -> tuple[Loss, ...]:
        """What was counted, in the order in which kinds came up first."""
        return tuple([Loss(what, count, reason) for (what, reason), count in self._counts.items()])


@dataclass(frozen=True)
class DocumentReading:
    """What a document says of one image.

    Attributes:
        image: its `path` is the image's path as the document has it.
        reading: the annotation, and what changed its kind on the way.
        split: as the document has it; ``""`` if it has none.
        classes: those that the document lists; objects of others are not in it. None if nobody knows.
    """

    image: ImageInfo
    reading: Reading
    split: str = ""
    classes: tuple[str, ...] | None = None


class DatasetDocument(ABC):
    """A kind of whole-dataset document: written, and read back if it can be.

    Attributes:
        lists_unseen: whether images that nobody has looked at are in it, and look like those that show nothing.
    """

    lists_unseen: bool = False

    @abstractmethod
    def chunks(self, entries: Iterable[DocumentEntry], classes: Sequence[str], losses: LossTally) -> Iterator[bytes]:
        """Write the document.

        Args:
            entries: the images, in their order; read once.
            classes: names of all classes, each once, in the order that gives them their numbers
                (`imgsyncfs.annotations.classes.class_order`). Objects of others are not shown.
            losses: is told what the document does not show; complete when the chunks have ended.

        Raises:
            AnnotationError: an annotation holds values that cannot be written at all.
            OSError: what has to wait cannot be kept in a temporary file.
        """

    def read(self, content: bytes, *, label_checked: int = 1) -> Iterator[DocumentReading]:  # noqa: ARG002 - for documents that can be read back
        """Read a document back, image by image in its order.

        Args:
            content: of a document that `chunks` made, or one from elsewhere.
            label_checked: of the annotations; documents do not say who has looked at an image.

        Raises:
            AnnotationError: it does not parse; says where. By default no document parses.
        """
        raise AnnotationError("documents of this format cannot be read back; use one that can")


def in_chunks(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Join short parts to chunks of about `CHUNK_BYTES`."""
    kept: list[bytes] = []
    length = 0
    for part in parts:
        kept.append(part)
        length += len(part)
        if length >= CHUNK_BYTES:
            yield b"".join(kept)
            kept, length = [], 0
    if kept:
        yield b"".join(kept)


def read_in_chunks(read: Callable[[int], bytes]) -> Iterator[bytes]:
    """The chunks of a file from its position on.

    Args:
        read: the file's method.
    """
    while chunk := read(CHUNK_BYTES):
        yield chunk


def _further_keys(annotation: Annotation) -> int:
    count = len(annotation.extra)
    for label in annotation.labels:
        if not isinstance(label, UnknownLabel):
            count += len(label.extra)
        if isinstance(label, ObjectLabel):
            count += sum([len(item.extra) for item in label.objects])
    return count


def image_at(path: str, height: int | None, width: int | None) -> ImageInfo:
    """The image that a document names.

    Args:
        path: with slashes or, from Windows, backslashes.
        height: in pixels, None or 0 if unknown.
        width: likewise.
    """
    name = PureWindowsPath(path)
    return ImageInfo("", name.stem, name.suffix.removeprefix("."), height or None, width or None, path=path)


def grouped_labels(objects: Iterable[LabelledObject]) -> tuple[ObjectLabel, ...]:
    """Put objects into a label for each type, in the order in which types come up first."""
    labels: dict[str, list[LabelledObject]] = {}
    for item in objects:
        labels.setdefault(OBJECT_LABEL_TYPES[type(item)], []).append(item)
    return tuple([ObjectLabel(label_type, tuple(items)) for label_type, items in labels.items()])


def hidden_class(item: LabelledObject, numbers: dict[str, int]) -> tuple[str, str] | None:
    """(what, reason) if an object's class is none of those that the document lists."""
    if item.class_name in numbers:
        return None
    return f"objects of the class {item.class_name!r:.40}", "it is not among the listed classes"
