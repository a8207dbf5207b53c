"""Image files with Pillow: whether a file is an image, its size, its pixels."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image, ImageMode, ImageOps, UnidentifiedImageError

from imgsyncfs.errors import PreviewError, PublishError
from imgsyncfs.formats.contract import ImageInfo
from imgsyncfs.pictures.marks import read_mark

if TYPE_CHECKING:
    from imgsyncfs.annotations.house_format import Annotation

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "bmp", "webp", "tif", "tiff")
"""What a published image's name may end in, in any letter case."""

HEADER_BYTES = 256 * 1024
"""Enough for the size and the EXIF block of nearly every image; a thumbnail in the EXIF block is at most 64 KiB."""

_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF")
"""Only these: Pillow knows formats that start other programs (EPS), which no dataset needs."""

_CONTRAST_SAMPLES = 1 << 20
_DARKEST_PERCENT, _BRIGHTEST_PERCENT = 0.1, 99.9

_ORIENTATION = 0x0112
_AS_STORED = 1
_ORIENTATIONS = range(1, 9)
_QUARTER_TURNS = frozenset({5, 6, 7, 8})
_TIFF_BYTE_ORDERS: dict[bytes, Literal["little", "big"]] = {b"II*\0": "little", b"MM\0*": "big"}
_TIFF_WIDTH, _TIFF_HEIGHT = 256, 257
_PNG_EXIF_KEYS = frozenset({"exif", "Raw profile type exif", "xmp"})

_COLOUR_TABLE_DEPTHS = {"P": 3, "PA": 4}
"""A picture with a colour table has one band, but every reader makes colours of it."""

_DECODING_ERRORS = (
    # What Pillow's decoders are seen to raise for damaged files, beside the OSError they promise.
    OSError,
    SyntaxError,
    ValueError,
    ArithmeticError,
    LookupError,
    TypeError,
    AttributeError,
    EOFError,
    MemoryError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """Size, depth and orientation of an image.

    Attributes:
        height: pixels, after the rotation that EXIF asks for.
        width: pixels, after the rotation that EXIF asks for.
        depth: number of channels; that of the colours where there is a colour table.
        orientation: EXIF's number, from 1 (as it is stored) to 8, of how the stored picture is turned to be shown.
        made: how it was made of another image, as of `imgsyncfs.pictures.marks.PictureMark`; empty if it was not.
        made_from: MD5 of that image; empty likewise.
    """

    height: int
    width: int
    depth: int
    orientation: int = 1
    made: str = ""
    made_from: str = ""


def check_image(content: bytes) -> ImageFacts:
    """Decode an image to check that the file is complete.

    A JPEG is decoded at an eighth of its size, in grey: every byte of it is still read, four times as fast.

    Args:
        content: the whole file.

    Returns:
        Size, depth and orientation.

    Raises:
        PublishError: the file is no image, is truncated or damaged, or has more pixels than Pillow takes; the message
            is the reason alone, to be read after the file's name.
    """
    with _reasons(), Image.open(io.BytesIO(content), formats=_FORMATS) as image:
        facts = _describe(image, whole=True)
        image.draft("L", (1, 1))
        image.load()
    return facts


def decode_content(content: bytes) -> Image.Image:
    """Decode an image as it is stored, not yet turned as EXIF asks for.

    Args:
        content: the whole file.

    Raises:
        PublishError: as of `check_image`.
    """
    with _reasons():
        image = Image.open(io.BytesIO(content), formats=_FORMATS)
        image.load()
    return image


def decode_to_show(content: bytes, *, most_pixels: int | None = None) -> Image.Image:
    """Decode an image as it is stored, for people or to make it smaller.

    Args:
        content: the whole file.
        most_pixels: along the longer side, if it will be made as small: a JPEG is then decoded at the next larger of
            half, a quarter and an eighth of its size, several times as fast.

    Raises:
        PreviewError: it is no image that is known, or damaged.
    """
    try:
        with _reasons():
            image = Image.open(io.BytesIO(content), formats=_FORMATS)
            if most_pixels is not None:
                # Twice as large at least, so that nothing of the picture is decided by how the decoder leaves out.
                scale = min(1.0, 2 * most_pixels / max(image.size))
                image.draft(None, (ceil(image.width * scale), ceil(image.height * scale)))
            image.load()
    except PublishError as error:
        raise PreviewError(f"The image cannot be shown: {error}") from error
    return image


def read_image_header(content: bytes) -> ImageFacts | None:
    """Read an image's size from the beginning of its file.

    Args:
        content: the first bytes of the file, `HEADER_BYTES` at best, or all of it.

    Returns:
        Size, depth and orientation, or None if these bytes do not say.

    Raises:
        PublishError: the image has more pixels than Pillow takes.
    """
    if _tiff_directory(content) >= len(content):
        return None
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            return _describe(image, whole=False)
    except Image.DecompressionBombError:
        raise PublishError(_too_large()) from None
    except _DECODING_ERRORS:
        return None


def described_image(stem: str, content: bytes) -> ImageInfo | None:
    """Describe an image for the readers of annotations.

    Args:
        stem: the image's name without its extension.
        content: the file, or as much of it as `read_image_header` wants.

    Returns:
        Its sizes and its orientation; None if the file does not say.
    """
    try:
        facts = read_image_header(content)
    except PublishError:
        return None
    if facts is None:
        return None
    return ImageInfo("", stem, "", facts.height, facts.width, facts.depth, orientation=facts.orientation)


def size_warnings(annotation: Annotation, image: ImageFacts, name: str) -> tuple[str, ...]:
    """Warn if an annotation was made for an image of another size; an annotation without a size fits any image."""
    width = image.width if annotation.width is None else annotation.width
    height = image.height if annotation.height is None else annotation.height
    if (width, height) == (image.width, image.height):
        return ()
    warning = f"{name} is made for {width} x {height} pixels, its image has {image.width} x {image.height}"
    return (f"{warning}; the labels may not fit",)


def upright_rgb(image: Image.Image) -> Image.Image:
    """Make an 8-bit RGB copy of an image, turned as its EXIF block asks for.

    Values of more than 8 bits are spread so that the darkest is black and the brightest white (a thousandth at either
    end is cut off); transparent parts become white.

    Raises:
        PreviewError: its mode has no colours that can be shown.
    """
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith(("I", "F")):
        upright = _contrast_spread(upright)
    try:
        if upright.mode in ("LA", "PA", "La", "RGBA", "RGBa") or "transparency" in upright.info:
            colours = upright.convert("RGBA")
            ground = Image.new("RGBA", upright.size, "white")
            return Image.alpha_composite(ground, colours).convert("RGB")
        return upright.convert("RGB")
    except ValueError as error:
        raise PreviewError(f"An image of mode {image.mode} cannot be shown ({error}); save it as RGB.") from error


@contextmanager
def _reasons() -> Iterator[None]:
    """Say why an image cannot be read.

    Raises:
        PublishError: it cannot.
    """
    try:
        yield
    except UnidentifiedImageError:
        raise PublishError(f"it is no image of a known format ({', '.join(_FORMATS)})") from None
    except Image.DecompressionBombError:
        raise PublishError(_too_large()) from None
    except _DECODING_ERRORS as error:
        raise PublishError(f"the image cannot be decoded ({_first_line(error)}); it is cut short or damaged") from error


def _describe(image: Image.Image, *, whole: bool) -> ImageFacts:
    """Describe an image that was opened and not decoded yet; `whole` says whether `Image` has the whole file."""
    width, height = image.size
    found: Any = None
    if image.format == "TIFF":
        # Pillow turns these by itself, some versions when opening them: only the tags say what is stored.
        tags: dict[int, int] = getattr(image, "tag_v2", {})
        width, height, found = tags[_TIFF_WIDTH], tags[_TIFF_HEIGHT], tags.get(_ORIENTATION)
    elif whole or image.format != "PNG" or _PNG_EXIF_KEYS & image.info.keys():
        # From a PNG whose header holds no EXIF, Pillow would decode the picture to look for EXIF behind it.
        found = image.getexif().get(_ORIENTATION)
    # Anything may stand there; what is none of EXIF's numbers turns nothing.
    orientation = int(found) if found in _ORIENTATIONS else _AS_STORED
    if orientation in _QUARTER_TURNS:
        width, height = height, width
    depth = _COLOUR_TABLE_DEPTHS.get(image.mode) or len(ImageMode.getmode(image.mode).bands)
    mark = read_mark(image.info)
    return ImageFacts(height, width, depth, orientation, *(mark if mark is not None else ()))


def _tiff_directory(content: bytes) -> int:
    """Return where a TIFF keeps its tags, often behind the picture; Pillow complains aloud where they are missing."""
    byte_order = _TIFF_BYTE_ORDERS.get(content[:4])
    return -1 if byte_order is None else int.from_bytes(content[4:8], byte_order)


def _too_large() -> str:
    limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
    return f"the image has more than {limit:,} pixels, the most that Pillow decodes; cut it into tiles"


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _contrast_spread(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.float64)
    values = np.nan_to_num(values, nan=0.0)
    samples = values.ravel()[:: max(1, values.size // _CONTRAST_SAMPLES)]
    low, high = np.percentile(samples, (_DARKEST_PERCENT, _BRIGHTEST_PERCENT)) if values.size else (0.0, 1.0)
    spread = (np.clip(values, low, high) - low) * (255 / (high - low) if high > low else 0.0)
    return Image.fromarray(np.round(spread).astype(np.uint8))
