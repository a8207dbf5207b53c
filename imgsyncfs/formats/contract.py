"""What every annotation format offers, and what passes through it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

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


class Format(Protocol):
    """A file format for annotations, to be written and read."""

    @property
    def name(self) -> str:
        """How users call it, for example ``labelme``."""

    @property
    def suffix(self) -> str:
        """What follows the image's stem in a rendered file's name, for example ``.labelme.json``."""

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

    def parse(self, content: bytes, *, label_checked: int = 1) -> Annotation:
        """Read an annotation back.

        Args:
            content: a file that `render` made, one that the format's tool saved, or one from elsewhere.
            label_checked: taken where the file does not tell, and where its objects were edited since it was
                rendered: whoever edits has looked.

        Returns:
            For a file that `render` made and nobody edited, the very annotation; an edit wins over what travelled
            along.

        Raises:
            AnnotationError: it does not parse; says where.
        """

    def recognizes(self, content: bytes) -> bool:
        """Tell a file of this format from others, cheaply."""
