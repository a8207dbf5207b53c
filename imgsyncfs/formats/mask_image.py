"""Masks as labelme keeps them: a PNG of the part that is covered, in base64."""

from __future__ import annotations

import base64
import binascii
import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from imgsyncfs.annotations.house_format import LARGEST_MASK_PIXELS
from imgsyncfs.errors import AnnotationError


def encode_mask_image(mask: npt.NDArray[np.bool_]) -> str:
    """Give a mask as a black and white PNG in base64.

    Args:
        mask: (height, width), both 1 or more, True where covered.

    Returns:
        ASCII text.
    """
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def decode_mask_image(text: str) -> npt.NDArray[np.bool_]:
    """Read a mask.

    Args:
        text: a PNG in base64; labelme 5 and 6 write grey values 0 and 1, others 0 and 255.

    Returns:
        (height, width), True where the image is not 0.

    Raises:
        AnnotationError: it is no such image, or one too large to be drawn.
    """
    try:
        with Image.open(io.BytesIO(base64.b64decode(text)), formats=("PNG",)) as image:
            if image.width * image.height > LARGEST_MASK_PIXELS:
                raise AnnotationError(f"{image.height} x {image.width} is more than {LARGEST_MASK_PIXELS} pixels")
            grey = image if image.mode in {"1", "L", "P", "I", "I;16"} else image.convert("L")
            covered: npt.NDArray[np.bool_] = np.asarray(grey) != 0
            return covered
    except (OSError, ValueError, SyntaxError, binascii.Error, Image.DecompressionBombError) as error:
        raise AnnotationError(f"it is no PNG in base64 ({error})") from error
