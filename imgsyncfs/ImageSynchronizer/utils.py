"""Pictures for notebooks, under the old name of this module."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from imgsyncfs.tools.preview.picture import preview_file


def draw_box(annotation_path: str | os.PathLike[str]) -> npt.NDArray[np.uint8]:
    """Draw an annotation into its image, which lies beside it.

    Args:
        annotation_path: an annotation in the house format, labelme's or roLabelImg's.

    Returns:
        The picture as OpenCV has it: blue, green, red; uint8, shape (height, width, 3), contiguous.

    Raises:
        PreviewError: the annotation or its image is missing or cannot be read.
    """
    picture = np.asarray(preview_file(Path(annotation_path)), dtype=np.uint8)
    return np.ascontiguousarray(picture[..., ::-1])
