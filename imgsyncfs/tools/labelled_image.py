"""One image with what is labelled in it, as numbers and pictures: what the Python API gives for each image."""

from __future__ import annotations

import logging
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from imgsyncfs.annotations.geometry import corners
from imgsyncfs.annotations.house_format import Annotation, BoundingBox, LabelledObject, ObjectLabel, RotatedBox
from imgsyncfs.errors import PreviewError, PublishError
from imgsyncfs.pictures.drawing import draw_content
from imgsyncfs.pictures.images import decode_content, upright_rgb

logger = logging.getLogger(__name__)


class LabelledImage(NamedTuple):
    """One image of a dataset. A tuple: ``name, content, annotation = sample`` takes it apart.

    What is not in the tuple is made when it is looked at, anew each time: keep what is needed twice.

    Attributes:
        name: the file's stem; `imgsyncfs.api.Dataset.file_name` has it with its extension.
        content: the image file's bytes, as published.
        annotation: its labels in the dataset's label version; None if there are none, not even empty ones.
    """

    name: str
    content: bytes
    annotation: Annotation | None

    @property
    def image(self) -> Image.Image:
        """The image, decoded: RGB, turned as its EXIF block asks for, so that coordinates are its pixels.

        Values of more than 8 bits are spread from black to white, transparent parts are white.

        Raises:
            PreviewError: it is damaged, or cannot be shown.
        """
        try:
            return upright_rgb(decode_content(self.content))
        except PublishError as error:
            raise PreviewError(f"{self.name} cannot be shown: {error}") from error

    @property
    def objects(self) -> tuple[LabelledObject, ...]:
        """What is labelled in the image, of all types, in the annotation's order."""
        labels = () if self.annotation is None else self.annotation.labels
        return tuple(item for label in labels if isinstance(label, ObjectLabel) for item in label.objects)

    @property
    def boxes(self) -> npt.NDArray[np.float64]:
        """The boxes among the objects, upright and rotated ones, in their order; polygons and masks are not in it.

        Returns:
            (n, 5) of x, y, w, h, a: centre and size in pixels, radians clockwise on screen; a is 0 for upright ones.
        """
        return np.array([_centred(box) for box in self._boxes()], dtype=np.float64).reshape(-1, 5)

    @property
    def xyxy(self) -> npt.NDArray[np.float64]:
        """The upright boxes around `boxes`, which for those with a = 0 are the boxes themselves.

        Returns:
            (n, 4) of x1, y1, x2, y2 in pixels, top left and bottom right.
        """
        boxes = self._boxes()
        around = corners(self.boxes)
        result = np.concatenate([around.min(axis=1), around.max(axis=1)], axis=1)
        for place, box in enumerate(boxes):
            if isinstance(box, BoundingBox):
                # As published: half of a size has been rounded.
                result[place] = box.x1, box.y1, box.x2, box.y2
        return result

    @property
    def classes(self) -> tuple[str, ...]:
        """The class of each of `boxes`."""
        return tuple(box.class_name for box in self._boxes())

    def __repr__(self) -> str:
        """Short, for a notebook: the image is given by its length."""
        count = None if self.annotation is None else self.annotation.object_count
        labels = "no annotation" if count is None else f"{count:,} label{'' if count == 1 else 's'}"
        return f"LabelledImage({self.name!r}, {len(self.content):,} bytes, {labels})"

    def _repr_png_(self) -> bytes | None:
        """The image with its annotation drawn, for a notebook; None if it cannot be shown."""
        try:
            return draw_content(self.content, self.annotation)
        except PreviewError as error:
            logger.warning("%s cannot be shown: %s", self.name, error)
            return None

    def _boxes(self) -> list[BoundingBox | RotatedBox]:
        return [item for item in self.objects if isinstance(item, BoundingBox | RotatedBox)]


def _centred(box: BoundingBox | RotatedBox) -> tuple[float, float, float, float, float]:
    if isinstance(box, RotatedBox):
        return box.x, box.y, box.w, box.h, box.a
    # Halved first: a sum of two large numbers may overflow.
    return box.x1 / 2 + box.x2 / 2, box.y1 / 2 + box.y2 / 2, box.x2 - box.x1, box.y2 - box.y1, 0.0
