"""What every annotation format offers, and what passes through it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imgsyncfs.errors import AnnotationError

if TYPE_CHECKING:
    # Not imported otherwise: numpy comes with it, and who only names formats need not wait for that.
    from imgsyncfs.annotations.house_format import Annotation


@dataclass(frozen=True)
class ImageInfo:
    """The image that an annotation belongs to.

    Attributes:
        dataset: the dataset's id.
        name: the file stem.
        ext: the file extension without a dot.
        height: in pixels after EXIF rotation, as the catalog has it, None if unknown; likewise `width`, and `depth`
            in channels. They win over the annotation's.
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
class Loss:
    """What a rendered file does not show.

    Attributes:
        what: the things' name, in the plural.
        count: how many of them.
        reason: why the format cannot show them.
    """

    what: str
    count: int
    reason: str


@dataclass(frozen=True)
class Rendered:
    """A file in some format, and what it does not show."""

    content: bytes
    losses: tuple[Loss, ...] = ()


class Format(ABC):
    """A file format for annotations, to be written and perhaps read back."""

    @abstractmethod
    def render(self, annotation: Annotation, image: ImageInfo) -> Rendered:
        """Write an annotation; the same input gives the same bytes.

        Args:
            annotation: what is to be shown.
            image: the image that it belongs to.

        Returns:
            The file, and what it does not show.

        Raises:
            AnnotationError: it holds what cannot be written at all.
        """

    def parse(self, content: bytes, *, label_checked: int = 1) -> Annotation:  # noqa: ARG002 - for those who can
        """Read an annotation back.

        Args:
            content: a file that `render` made, one that the format's tool saved, or one from elsewhere.
            label_checked: taken where the file does not tell, and where its objects were edited since it was
                rendered: whoever edits has looked.

        Returns:
            For a file that `render` made and nobody edited, the very annotation; an edit wins over what travelled
            along.

        Raises:
            AnnotationError: it does not parse; says where. By default: files of this format cannot be read back.
        """
        raise AnnotationError("files of this format cannot be read back; use one that can be")

    def recognizes(self, content: bytes) -> bool:  # noqa: ARG002 - for those who can
        """Tell a file of this format from others, cheaply; by default none is one that could be read back."""
        return False
