"""Previews: an image with its annotation drawn into it, as a file."""

from __future__ import annotations

import io
import logging
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from imgsyncfs.errors import PreviewError, printable
from imgsyncfs.pictures.drawing import draw_annotation
from imgsyncfs.pictures.images import ImageFacts, size_warnings
from imgsyncfs.pictures.marks import TEXT_KEY
from imgsyncfs.tools.preview.files import PreviewSource, decode_image, read_preview_source

logger = logging.getLogger(__name__)

PICTURE_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
"""What a preview can be written as, by the ending of its name."""

_JPEG_QUALITY = 92


def preview_file(path: Path) -> Image.Image:
    """Draw an annotation file's content into its image, or an image's annotation into it.

    Args:
        path: one of the two; `imgsyncfs.tools.preview.files.read_preview_source` says how it finds the other one.

    Returns:
        An RGB image. If the annotation was made for an image of another size, a warning is logged.

    Raises:
        PreviewError: the image or the annotation is missing or cannot be read.
    """
    return preview_source(read_preview_source(path))


def preview_source(source: PreviewSource) -> Image.Image:
    """Draw what `imgsyncfs.tools.preview.files.read_preview_source` has read; see `preview_file`."""
    picture = draw_annotation(decode_image(source), source.annotation)
    facts = ImageFacts(picture.height, picture.width, len(picture.getbands()))
    for warning in size_warnings(source.annotation, facts, printable(str(source.annotation_path))):
        logger.warning("Note: %s", warning)
    return picture


def save_picture(picture: Image.Image, path: Path, *, mark: str) -> None:
    """Write a preview; the folder is made if it is missing.

    Args:
        picture: an RGB image.
        path: its ending is one of `PICTURE_FORMATS`.
        mark: goes into the file, as of `imgsyncfs.pictures.marks`; by it `publish` knows what the picture was made of.

    Raises:
        PreviewError: it cannot be written there, or not in this format.
    """
    shown = printable(str(path))
    kind = PICTURE_FORMATS.get(path.suffix.lower())
    if kind is None:
        raise PreviewError(f"{shown}: previews are written as {', '.join(PICTURE_FORMATS)}; use one of these endings")
    content = io.BytesIO()
    try:
        text = PngInfo()
        text.add_text(TEXT_KEY, mark)
        # The options of the one format are ignored by the other.
        picture.save(content, kind, quality=_JPEG_QUALITY, subsampling=0, comment=mark.encode(), pnginfo=text)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.getvalue())
    except OSError as error:
        reason = error.strerror or str(error)
        raise PreviewError(f"{shown} cannot be written ({reason}); say where with -o") from error
