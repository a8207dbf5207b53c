"""What the Python API gives for one image: its boxes as arrays, its picture turned and in RGB."""

from __future__ import annotations

import io
from math import pi

import numpy as np
import pytest
from PIL import Image

from imgsyncfs.annotations.house_format import (
    Annotation,
    BoundingBox,
    ClassificationLabel,
    Mask,
    ObjectLabel,
    Polygon,
    RotatedBox,
    UnknownLabel,
)
from imgsyncfs.errors import PreviewError
from imgsyncfs.tools.labelled_image import LabelledImage

UPRIGHT = BoundingBox("car", 10, 20, 50, 40)
TURNED = RotatedBox("person", 100.5, 50.25, 40.0, 20.0, pi / 2)
OUTLINE = Polygon("dog", ((1, 2), (3, 4.5), (5, 6)))
REGION = Mask("cat", (2, 2), (1, 3))

MIXED = Annotation(
    labels=(
        ClassificationLabel("Weather", "rain"),
        ObjectLabel("rbbox", (TURNED,)),
        ObjectLabel("poly", (OUTLINE,)),
        ObjectLabel("seg", (REGION,)),
        UnknownLabel({"label_type": "pose"}),
        ObjectLabel("bbox", (UPRIGHT,)),
    )
)


def encoded(image: Image.Image, kind: str = "PNG", *, orientation: int | None = None) -> bytes:
    """An image file."""
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    content = io.BytesIO()
    image.save(content, kind, exif=exif)
    return content.getvalue()


def labelled(*objects: BoundingBox | RotatedBox) -> LabelledImage:
    """An image with boxes."""
    return LabelledImage("one", b"", Annotation(labels=tuple(ObjectLabel("any", (each,)) for each in objects)))


def test_boxes_are_centre_size_and_angle_and_upright_ones_have_the_angle_0() -> None:
    boxes = labelled(UPRIGHT, TURNED).boxes
    assert boxes.dtype == np.float64
    assert boxes.tolist() == [[30, 30, 40, 20, 0], [100.5, 50.25, 40, 20, pi / 2]]


def test_boxes_around_turned_ones_enclose_their_corners_and_upright_ones_are_as_published() -> None:
    odd = BoundingBox("car", 0.1, 0.2, 1e9 + 0.1, 0.3)
    xyxy = labelled(TURNED, UPRIGHT, odd).xyxy
    assert xyxy[0] == pytest.approx([90.5, 30.25, 110.5, 70.25])
    assert xyxy[1:].tolist() == [[10, 20, 50, 40], [0.1, 0.2, 1e9 + 0.1, 0.3]]


def test_polygons_and_masks_are_objects_and_no_boxes() -> None:
    sample = LabelledImage("one", b"", MIXED)
    assert sample.objects == (TURNED, OUTLINE, REGION, UPRIGHT)
    assert sample.classes == ("person", "car")
    assert sample.boxes[:, :2].tolist() == [[100.5, 50.25], [30, 30]]


@pytest.mark.parametrize("annotation", [None, Annotation()])
def test_without_boxes_the_arrays_are_empty_and_have_their_columns(annotation: Annotation | None) -> None:
    sample = LabelledImage("one", b"", annotation)
    assert (sample.boxes.shape, sample.xyxy.shape, sample.classes, sample.objects) == ((0, 5), (0, 4), (), ())
    assert sample.boxes.dtype == sample.xyxy.dtype == np.float64


def test_an_image_is_taken_apart_as_a_tuple() -> None:
    name, content, annotation = LabelledImage("one", b"content", None)
    assert (name, content, annotation) == ("one", b"content", None)


def test_the_picture_is_turned_as_its_exif_block_asks_for() -> None:
    picture = Image.new("RGB", (64, 48), "white")
    picture.paste("black", (0, 0, 32, 48))
    sample = LabelledImage("one", encoded(picture, "JPEG", orientation=6), None)
    assert sample.image.size == (48, 64)
    assert [sample.image.getpixel((24, y)) for y in (5, 60)] == [(0, 0, 0), (255, 255, 255)]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_the_picture_is_in_rgb_whatever_the_file_is_in(mode: str) -> None:
    assert LabelledImage("one", encoded(Image.new(mode, (8, 6))), None).image.mode == "RGB"


@pytest.mark.parametrize("content", [b"", b"no image", encoded(Image.new("RGB", (64, 48)))[:-30]])
def test_a_damaged_image_is_an_error_that_names_it(content: bytes) -> None:
    with pytest.raises(PreviewError, match="^one cannot be shown: "):
        _ = LabelledImage("one", content, None).image
