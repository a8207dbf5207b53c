"""The interface of annotation formats, the objects that it takes and returns, and the description of a format."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
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
        orientation: EXIF's number, from 1 (as it is stored) to 8, of how the stored picture is turned to be shown.
        path: where the image lies, from the folder of the annotation file on, with slashes; empty if it lies beside it.
        classes: the names of the dataset's classes in their order, for formats that have numbers in their place.
    """

    dataset: str
    name: str
    ext: str
    height: int | None = None
    width: int | None = None
    depth: int | None = None
    orientation: int = 1
    path: str = ""
    classes: tuple[str, ...] = ()

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
class Change:
    """One kind of thing that is not what it was, or not what somebody may take it for, after a file was read.

    Attributes:
        what: the name of the things, in the plural.
        count: their number.
        reason: what became of them, and why.
        is_harmless: whether they are still labels of the kind that they were: `strict` readers go on.
    """

    what: str
    count: int
    reason: str
    is_harmless: bool = False


@dataclass(frozen=True)
class Reading:
    """An annotation that was read from a file, and what changed its kind on the way."""

    annotation: Annotation
    changes: tuple[Change, ...] = ()


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

    def read(self, content: bytes, *, label_checked: int = 1, image: ImageInfo | None = None) -> Reading:  # noqa: ARG002 - as above
        """Read an annotation back, and tell what changed its kind. By default `parse` reads, and tells nothing.

        Args:
            content: as for `parse`.
            label_checked: as for `parse`.
            image: the image that the file belongs to, as far as it is known: some tools write the coordinates of the
                picture as it is stored, without the rotation that EXIF asks for.

        Raises:
            AnnotationError: as for `parse`.
        """
        return Reading(self.parse(content, label_checked=label_checked))

    def recognizes(self, content: bytes) -> bool:  # noqa: ARG002 - for formats that can be read back
        """Recognize a file of this format by a cheap look. The default recognizes none."""
        return False

    def image_reference(self, content: bytes) -> ImageReference:  # noqa: ARG002 - for formats that name an image
        """Read what a file that parses says of its image. By default a file says nothing."""
        return ImageReference()

    def reattached(self, content: bytes, original: Annotation, image: ImageInfo) -> bytes:  # noqa: ARG002 - as above
        """Put back into a file what was embedded in it and was dropped when a tool saved it.

        Args:
            content: a file that parses.
            original: the annotation that the file was probably rendered from.
            image: the image that both belong to.

        Returns:
            The file with what would be embedded in it had the tool kept it; `content` itself if nothing is missing. By
            default, nothing is embedded in files.
        """
        return content


@dataclass(frozen=True)
class FormatDescription(Format):
    """Names and abilities of a format; the `Format` that does the work is imported when it is first used.

    Attributes:
        name: the name for users, for example ``labelme``; small letters.
        suffix: follows the image's stem in the name of a rendered file, for example ``.labelme.json``.
        place: ``module:Class`` of the `Format`; the class takes no arguments.
        title: the tool's name in prose; `name` if empty.
        tool_suffix: the suffix that the tool itself looks for, for example ``.json``; `suffix` if empty.
        aliases: other names that users may give; small letters.
        is_readable: whether files can be read back: then `publish` and `convert` take them.
        can_publish_in_place: whether a file can be catalogued as it is, because it is a house annotation as well.
        is_in_stored_pixels: whether the tool shows a picture without the rotation that EXIF asks for, so that reading
            and writing depends on `ImageInfo.orientation`.
        resembles: the name of a format that recognizes files of this one as well; this one is asked first.
    """

    name: str
    suffix: str
    place: str
    title: str = ""
    tool_suffix: str = ""
    aliases: tuple[str, ...] = ()
    is_readable: bool = False
    can_publish_in_place: bool = False
    is_in_stored_pixels: bool = False
    resembles: str = ""

    @property
    def shown_title(self) -> str:
        """The tool's name in prose."""
        return self.title or self.name

    @property
    def view_suffix(self) -> str:
        """What follows an image's stem where the tool looks for its file."""
        return self.tool_suffix or self.suffix

    def in_view(self) -> FormatDescription:
        """The same format with the suffix that the tool looks for."""
        return replace(self, suffix=self.view_suffix)

    @cached_property
    def _format(self) -> Format:
        module, _, attribute = self.place.partition(":")
        made: Format = getattr(importlib.import_module(module), attribute)()
        return made

    def render(self, annotation: Annotation, image: ImageInfo) -> Rendered:
        """Write an annotation."""
        return self._format.render(annotation, image)

    def parse(self, content: bytes, *, label_checked: int = 1) -> Annotation:
        """Read an annotation back."""
        return self._format.parse(content, label_checked=label_checked)

    def read(self, content: bytes, *, label_checked: int = 1, image: ImageInfo | None = None) -> Reading:
        """Read an annotation back, and tell what changed its kind."""
        return self._format.read(content, label_checked=label_checked, image=image)

    def recognizes(self, content: bytes) -> bool:
        """Recognize a file of this format by a cheap look."""
        return self._format.recognizes(content)

    def image_reference(self, content: bytes) -> ImageReference:
        """Read what a file says of its image."""
        return self._format.image_reference(content)

    def reattached(self, content: bytes, original: Annotation, image: ImageInfo) -> bytes:
        """Put back what a tool dropped from a file."""
        return self._format.reattached(content, original, image)
