"""Reads CVAT's ``annotations.xml`` back: CVAT for images 1.1, as it is written here or exported by CVAT.

A ``box`` with ``rotation`` is a rotated box. A ``tag`` is a classification: its attributes' names and values, the tag's
label where an attribute is called ``value``, and a tag without attributes the label ``tag``. Attributes of shapes are
kept in the objects' extra keys. Entities and the network are off, and a file with a document type is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from math import isfinite, radians

import numpy as np
from lxml import etree

from imgsyncfs.annotations.encoding import encoding_fault
from imgsyncfs.annotations.geometry import encode_run_length
from imgsyncfs.annotations.house_format import (
    LARGEST_MASK_PIXELS,
    Annotation,
    BoundingBox,
    ClassificationLabel,
    LabelledObject,
    Mask,
    Polygon,
    RotatedBox,
    within,
)
from imgsyncfs.errors import AnnotationError
from imgsyncfs.formats.contract import Change, Reading
from imgsyncfs.formats.dataset_documents.contract import DocumentReading, grouped_labels, image_at

TAG_VALUE = "value"
"""The attribute of a tag that holds what a classification says."""

_DECIMALS = 9
"""Sums and halves of written numbers are rounded to this, so that 0.1 + 0.2 is 0.3."""

_PLURALS = {
    "polyline": "polylines",
    "points": "points",
    "ellipse": "ellipses",
    "cuboid": "cuboids",
    "skeleton": "skeletons",
}
_NO_OBJECT = "the house format has no object for them; they are left out"


def read_cvat(content: bytes, *, label_checked: int = 1) -> Iterator[DocumentReading]:
    """Read CVAT's XML; see `imgsyncfs.formats.dataset_documents.contract.DatasetDocument.read`."""
    if b"<!DOCTYPE" in content.partition(b"<annotations")[0]:
        raise AnnotationError("it has a document type, which may hide entities; remove the DOCTYPE")
    elements = etree.iterparse(
        BytesIO(content), events=("start", "end"), resolve_entities=False, no_network=True, load_dtd=False
    )
    root: etree._Element | None = None
    classes: tuple[str, ...] | None = None
    count = 0
    try:
        for event, element in elements:
            if root is None:
                root = element
                if root.tag != "annotations":
                    raise AnnotationError(f"it must be CVAT's annotations, this is {str(root.tag)!r:.60}")
            elif event == "start" and element.tag == "track" and element.getparent() is root:
                raise AnnotationError(
                    "it is of a video, with tracks; export it again in the format 'CVAT for images 1.1'",
                    field=f"image[{count}]",
                )
            elif event == "end" and element.tag == "meta" and element.getparent() is root:
                # Of a task, a project or a job; the labels that a skeleton has are below its own.
                classes = tuple(dict.fromkeys(name.text or "" for name in element.iterfind("*/labels/label/name")))
            elif event == "end" and element.tag == "image" and element.getparent() is root:
                reading = within(lambda image: _read_image(image, label_checked), element, f"image[{count}]")
                yield replace(reading, classes=classes)
                count += 1
                root.remove(element)  # or a large document would be in memory twice
    except etree.XMLSyntaxError as error:
        fault = encoding_fault(content)
        raise AnnotationError(fault or f"it is not valid XML ({error}); export it again from CVAT") from error


def _read_image(element: etree._Element, label_checked: int) -> DocumentReading:
    sides = (_whole(element, side) if side in element.attrib else None for side in ("height", "width"))
    image = image_at(_text(element, "name"), *sides)
    objects: list[LabelledObject] = []
    tags: list[ClassificationLabel] = []
    left_out: Counter[str] = Counter()
    for index, shape in enumerate(element):
        if not isinstance(shape.tag, str):
            continue  # a comment
        place = f"{shape.tag}[{index}]"
        if shape.tag == "tag":
            tags += within(_read_tag, shape, place)
        elif shape.tag == "mask":
            objects.append(within(lambda mask: _read_mask(mask, image.height, image.width), shape, place))
        elif shape.tag in _READERS:
            objects.append(within(_READERS[shape.tag], shape, place))
        else:
            left_out[_PLURALS.get(shape.tag, f"shapes {shape.tag!r:.40}")] += 1
    annotation = Annotation(
        label_checked=label_checked,
        height=image.height,
        width=image.width,
        ext=image.ext or None,
        labels=(*grouped_labels(objects), *tags),
    )
    changes = tuple([Change(what, number, _NO_OBJECT) for what, number in left_out.items()])
    return DocumentReading(image, Reading(annotation, changes), element.get("subset", ""))


def _read_tag(element: etree._Element) -> list[ClassificationLabel]:
    label, values = _text(element, "label"), _attributes(element)
    if not values:
        return [ClassificationLabel("tag", label)]
    return [ClassificationLabel(label if name == TAG_VALUE else name, value) for name, value in values.items()]


def _read_box(element: etree._Element) -> BoundingBox | RotatedBox:
    name, extra = _text(element, "label"), _extra(element)
    left, top, right, bottom = (_number(element, edge) for edge in ("xtl", "ytl", "xbr", "ybr"))
    if "rotation" not in element.attrib:
        return BoundingBox(name, left, top, right, bottom, extra)
    x, y, w, h = (
        round(value, _DECIMALS) for value in (left / 2 + right / 2, top / 2 + bottom / 2, right - left, bottom - top)
    )
    return RotatedBox(name, x, y, w, h, radians(_number(element, "rotation")), extra)


def _read_polygon(element: etree._Element) -> Polygon:
    points = []
    for pair in filter(None, _text(element, "points").split(";")):
        x, comma, y = pair.partition(",")
        if not comma:
            raise AnnotationError(f"a point is x,y, this is {pair!r:.40}", field="points")
        points.append((_parsed(x, "points"), _parsed(y, "points")))
    return Polygon(_text(element, "label"), tuple(points), _extra(element))


def _read_mask(element: etree._Element, height: int | None, width: int | None) -> Mask:
    name, extra = _text(element, "label"), _extra(element)
    left, top, columns, rows = (_whole(element, side) for side in ("left", "top", "width", "height"))
    height, width = height or top + rows, width or left + columns
    if height * width > LARGEST_MASK_PIXELS:
        raise AnnotationError(f"{height} x {width} is more than {LARGEST_MASK_PIXELS} pixels", field="rle")
    if top + rows > height or left + columns > width:
        raise AnnotationError(f"it reaches out of the image of {height} x {width}", field="rle")
    texts = filter(None, (text.strip() for text in _text(element, "rle").split(",")))
    runs = [_parsed_whole(text, "rle") for text in texts]
    if sum(runs) != rows * columns:
        raise AnnotationError(f"its run lengths add up to {sum(runs)}, not to {rows} x {columns}", field="rle")
    part = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(rows, columns)
    mask = np.zeros((height, width), dtype=np.bool_)
    mask[top : top + rows, left : left + columns] = part
    return Mask(name, (height, width), tuple(encode_run_length(mask)), extra)


_READERS: dict[str, Callable[[etree._Element], LabelledObject]] = {"box": _read_box, "polygon": _read_polygon}


def _attributes(element: etree._Element) -> dict[str, str]:
    return {attribute.get("name", ""): attribute.text or "" for attribute in element.findall("attribute")}


def _extra(element: etree._Element) -> dict[str, object]:
    values = _attributes(element)
    return {"attributes": values} if values else {}


def _text(element: etree._Element, name: str) -> str:
    text = element.get(name)
    if text is None:
        raise AnnotationError("it is missing", field=name)
    return text


def _number(element: etree._Element, name: str) -> float:
    return _parsed(_text(element, name), name)


def _whole(element: etree._Element, name: str) -> int:
    return _parsed_whole(_text(element, name), name)


def _parsed(text: str, field: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not isfinite(number):
        raise AnnotationError(f"it must be a number, this is {text!r:.40}", field=field)
    return number


def _parsed_whole(text: str, field: str) -> int:
    number = _parsed(text, field)
    if number < 0 or number != int(number):
        raise AnnotationError(f"it must be a whole number from 0 on, this is {text!r:.40}", field=field)
    return int(number)
