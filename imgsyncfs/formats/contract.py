"""The interface of annotation formats, and the objects that it takes and returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imgsyncfs.errors import AnnotationError

if TYPE_CHECKING:
    # Late: numpy comes with this import, and code that only names formats need not wait for numpy.
    from imgsyncfs.annotations.house_format import Annotation


@dataclass(frozen=True)
class ImageInfo:
    """The image that an annotation belongs to.

    Attributes:
        dataset: the dataset's id.
        name: the file stem.
        ext: the file extension without a dot.
        height: in pixels after EXIF rotation, None if unknown. Sizes here win over the annotation's.
        width: as `height`.
        depth: in channels, None if unknown.
    """

    dataset: str
    name: str
    ext: str
    height: int | None = None
    width: int | None = None
    depth: int | None = None

    @property
    def file_name(self) -> str:
        """The image's base name."""
        return f"{self.name}.{self.ext}"


@dataclass(frozen=True)
class ImageReference:
    """What an annotation file says of its image.

    Attributes:
        image: the image's name, and the sizes that the file shows; None if the file names no image.
        opened_paths: paths that the format's tool opens, whatever the annotation file's own name is. They may be of
            another machine or of Windows.
        mentioned_paths: paths that the file names though the tool goes by the annotation file's own name; likewise,
            and perhaps without an extension.
        embedded_content: the image file that is embedded in the annotation file, None if there is none.
    """

    image: ImageInfo | None = None
    opened_paths: tuple[str, ...] = ()
    mentioned_paths: tuple[str, ...] = ()
    embedded_content: bytes | None = None


@dataclass(frozen=True)
class Loss:
    """One kind of thing that a rendered file does not show.

    Attributes:
        what: the name of the things, in the plural.
        count: their number.
        reason: why the format cannot show them.
    """

    what: str
    count: int
    reason: str


@dataclass(frozen=True)
class Rendered:
    """A rendered file, and what the file does not show."""

    content: bytes
    losses: tuple[Loss, ...] = ()


class Format(ABC):
    """A file format for annotations: written, and read back if the format can be."""

    @abstractmethod
    def render(self, annotation: Annotation, image: ImageInfo) -> Rendered:
        """Write an annotation; the same input gives the same bytes.

        Raises:
            AnnotationError: the annotation holds values that cannot be written at all.
        """

    def parse(self, content: bytes, *, label_checked: int = 1) -> Annotation:  # noqa: ARG002 - for formats that can be read back
        """Read an annotation back.

        Args:
            content: a file that `render` made, one that the format's tool saved, or one from elsewhere.
            label_checked: the value for a file that has none, and for a file that was edited after rendering: a
                person who edits has looked at the image.

        Returns:
            For a file that `render` made and nobody edited, the same annotation; an edit wins over the original.

        Raises:
            AnnotationError: the file does not parse; says where. By default no file parses.
        """
        raise AnnotationError("files of this format cannot be read back; use one that can be")

    def recognizes(self, content: bytes) -> bool:  # noqa: ARG002 - for formats that can be read back
        """Tell a file of this format from others, cheaply. The default recognizes none."""
        return False

    def image_reference(self, content: bytes) -> ImageReference:  # noqa: ARG002 - for formats that name an image
        """Read what a file that parses says of its image. By default a file says nothing."""
        return ImageReference()

    def reattached(self, content: bytes, original: Annotation, image: ImageInfo) -> bytes:  # noqa: ARG002 - as above
        """Put back into a file what travelled along in the file and was dropped when a tool saved it.

        Args:
            content: a file that parses.
            original: the annotation that the file was probably rendered from.
            image: the image that both belong to.

        Returns:
            The file with what it would carry had the tool kept it; `content` itself if nothing is missing. By default,
            files carry nothing that could be dropped.
        """
        return content
