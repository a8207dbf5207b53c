"""The mark in pictures that are made of images: by it they are known again, whoever copied or renamed them.

Published under the dataset's own id, a picture would take the place of the image that it was made of.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

DRAWN, RESIZED = "drawn", "resized"
"""What was done to the image: its annotation was drawn in, or it was made smaller."""

COMMENT_KEY = "comment"
"""Where Pillow has the comment of a JPEG."""

TEXT_KEY = "Comment"
"""Where Pillow has the text of this name of a PNG; it is one of the standard's."""

_MARK = re.compile(rf"imgsyncfs: ({DRAWN}|{RESIZED}) from the image with the MD5 ([0-9a-f]{{32}})")


class PictureMark(NamedTuple):
    """What is known of a picture that was made of an image.

    Attributes:
        made: `DRAWN` or `RESIZED`.
        image_md5: of the image file, in hexadecimal.
    """

    made: str
    image_md5: str


def mark_text(made: str, image: bytes) -> str:
    """The mark for a picture.

    Args:
        made: `DRAWN` or `RESIZED`.
        image: content of the image file.
    """
    return f"imgsyncfs: {made} from the image with the MD5 {hashlib.md5(image, usedforsecurity=False).hexdigest()}"


def read_mark(info: Mapping[Any, Any]) -> PictureMark | None:
    """Read the mark of an image that was opened with Pillow; None if it has none.

    Args:
        info: `PIL.Image.Image.info`.
    """
    for key in (COMMENT_KEY, TEXT_KEY):
        text = info.get(key)
        text = text.decode("ascii", "replace") if isinstance(text, bytes) else text
        match = _MARK.fullmatch(text) if isinstance(text, str) else None
        if match is not None:
            return PictureMark(match[1], match[2])
    return None
