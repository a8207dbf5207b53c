"""labelme files as tests need them: rendered, saved by labelme, edited."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
from PIL import Image

from imgsyncfs.annotations.geometry import encode_run_length
from imgsyncfs.annotations.house_format import (
    Annotation,
    BoundingBox,
    Label,
    LabelledObject,
    Mask,
    ObjectLabel,
    Polygon,
    RotatedBox,
)
from imgsyncfs.formats.registry import FORMATS, ImageInfo

LABELME = FORMATS["labelme"]
IMAGE = ImageInfo("original_20200207_fisheye_rbbox", "00079", "jpg", 2880, 2880, 3)
BOX = BoundingBox("person", 10, 20.5, 30.25, 40, {"id": 7})
ROTATED = RotatedBox("person", 1433.5394, 1151.9007, 206.441, 383.9458, 1.548375 + 6.283185, {"id": 8})
POLYGON = Polygon("arm", ((1, 2), (30, 4.5), (5, 60)), {"id": 9})
COVERED = np.zeros((50, 60), dtype=np.bool_)
COVERED[10:20, 30:45] = True
COVERED[12, 33] = False
MASK = Mask("hair", (50, 60), tuple(encode_run_length(COVERED)), {"id": 10})


def annotation_of(*labels: Label, label_checked: int = 1) -> Annotation:
    """An annotation of the image."""
    return Annotation(label_checked=label_checked, height=2880, width=2880, depth=3, ext="jpg", labels=labels)


def annotation_with(*objects: LabelledObject) -> Annotation:
    """An annotation with one label that holds these objects, all of one type."""
    types = {BoundingBox: "bbox", RotatedBox: "rbbox", Polygon: "poly", Mask: "seg"}
    return annotation_of(ObjectLabel(types[type(objects[0])], objects))


def rendered(annotation: Annotation, image: ImageInfo = IMAGE) -> dict[str, Any]:
    """The labelme file of an annotation, decoded."""
    return dict(orjson.loads(LABELME.render(annotation, image).content))


def parsed(document: dict[str, Any]) -> Annotation:
    """A labelme file, read."""
    return LABELME.parse(orjson.dumps(document))


def edited(annotation: Annotation, edit: Callable[[dict[str, Any]], None]) -> Annotation:
    """An annotation after somebody edited its labelme file and saved it."""
    document = saved_by_labelme(rendered(annotation))
    edit(document)
    return parsed(document)


def objects_of(annotation: Annotation, label: int = 0) -> tuple[LabelledObject, ...]:
    """The objects of one label."""
    found = annotation.labels[label]
    assert isinstance(found, ObjectLabel)
    return found.objects


def saved_by_labelme(document: dict[str, Any], *, drops_repeated_points: bool = False) -> dict[str, Any]:
    """What labelme 6.3 makes of a file when it saves it unedited; 6.0 and before drop points equal to the first."""
    shapes = []
    for shape in document["shapes"]:
        known = ("label", "points", "group_id", "description", "shape_type", "flags", "mask")
        points = [[float(x), float(y)] for x, y in shape["points"]]
        if drops_repeated_points:
            points = [point for index, point in enumerate(points) if index == 0 or point != points[0]]
        shapes.append(
            {
                **{key: value for key, value in shape.items() if key not in known},
                "label": shape["label"],
                "points": points,
                "group_id": shape["group_id"],
                "description": shape["description"],
                "shape_type": shape["shape_type"],
                "flags": {"occluded": False, **shape["flags"]},
                "mask": repacked(shape["mask"]) if "mask" in shape else None,
            }
        )
    saved = {
        **document,
        "version": "6.3.1",
        "flags": {"blurry": False, **document["flags"]},
        "shapes": shapes,
        "imagePath": f"../{document['imagePath']}",
    }
    return dict(json.loads(json.dumps(saved, ensure_ascii=False, indent=2)))


def repacked(mask: str) -> str:
    """A mask's image as labelme packs it: grey values 0 and 1."""
    with Image.open(io.BytesIO(base64.b64decode(mask))) as image:
        grey = np.asarray(image).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def new_shape(shape_type: str, *points: tuple[float, float], label: str = "dog", **others: Any) -> dict[str, Any]:
    """A shape as labelme saves one that was just drawn."""
    return {
        "label": label,
        "points": [list(point) for point in points],
        "group_id": None,
        "description": "",
        "shape_type": shape_type,
        "flags": {},
        "mask": None,
        **others,
    }


def add(*shapes: dict[str, Any]) -> Callable[[dict[str, Any]], None]:
    """The edit that draws these shapes."""
    return lambda document: document["shapes"].extend(shapes)
