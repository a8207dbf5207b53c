"""Pictures that are made of the images of a dataset: with their annotations drawn into them, or smaller.

The same image and annotation give the same bytes wherever Pillow and its codecs have the same version.
"""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imgsyncfs.pictures.marks import DRAWN, RESIZED, mark_text

if TYPE_CHECKING:
    # Not imported otherwise: Pillow and numpy come with them, and whoever lists pictures makes none.
    from PIL import Image

    from imgsyncfs.annotations.house_format import Annotation

PICTURE_EXT = "jpg"
"""The extension of every picture, whatever its image is."""

PICTURE_DEPTH = 3
"""Channels of every picture."""

JPEG_QUALITY = 90


class PictureKind(ABC):
    """How pictures are made of images.

    Attributes:
        shows_annotation: whether a picture depends on the annotation of its image.
    """

    shows_annotation: bool = False

    @property
    @abstractmethod
    def name(self) -> str:
        """Tells this kind from others, and from itself in versions that made other bytes."""

    @abstractmethod
    def make(self, content: bytes, annotation: Annotation | None) -> bytes:
        """Make a picture.

        Args:
            content: the image file.
            annotation: the image's, in pixels of the image as EXIF turns it; None if it has none.

        Returns:
            A JPEG file, without EXIF: its pixels are turned already. It has a mark, see `imgsyncfs.pictures.marks`.

        Raises:
            PreviewError: the image cannot be decoded or shown.
        """


@dataclass(frozen=True)
class DrawnPicture(PictureKind):
    """An image with its annotation drawn into it, in the image's size."""

    shows_annotation = True

    @property
    def name(self) -> str:
        """See `PictureKind.name`."""
        return "drawn-2"

    def make(self, content: bytes, annotation: Annotation | None) -> bytes:
        """Draw the annotation; see `PictureKind.make`."""
        # Late, as above.
        from imgsyncfs.pictures.drawing import draw_annotation
        from imgsyncfs.pictures.images import decode_to_show, upright_rgb

        image = decode_to_show(content)
        picture = upright_rgb(image) if annotation is None else draw_annotation(image, annotation)
        return _as_jpeg(picture, mark_text(DRAWN, content))


@dataclass(frozen=True)
class ResizedPicture(PictureKind):
    """An image made smaller; one that is small enough keeps its size.

    Attributes:
        longest_side: of the picture, in pixels.
    """

    longest_side: int

    @property
    def name(self) -> str:
        """See `PictureKind.name`."""
        return f"resized-{self.longest_side}-2"

    def make(self, content: bytes, annotation: Annotation | None) -> bytes:  # noqa: ARG002 - as it is for all
        """Make the image smaller; see `PictureKind.make`."""
        # Late, as above.
        from PIL import Image

        from imgsyncfs.annotations.resizing import Size, fitted_size
        from imgsyncfs.pictures.images import decode_to_show, read_image_header, upright_rgb

        image = upright_rgb(decode_to_show(content, most_pixels=self.longest_side))
        facts = read_image_header(content)
        # The decoder may have made it smaller already, and has rounded its sides then.
        before = Size(image.height, image.width) if facts is None else Size(facts.height, facts.width)
        height, width = fitted_size(before, self.longest_side)
        if image.size != (width, height):
            image = image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0)
        return _as_jpeg(image, mark_text(RESIZED, content))


def _as_jpeg(image: Image.Image, mark: str) -> bytes:
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", quality=JPEG_QUALITY, comment=mark.encode())
    return encoded.getvalue()
