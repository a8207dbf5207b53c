"""What X-AnyLabeling 4.2.1 takes of a file and makes of it when it saves, written from what its code does.

Its package needs Qt, OpenCV and some fifty others to be imported. It refuses a file for one shape of a type that it
does not know, and for links that are no pairs of whole numbers.
"""

from __future__ import annotations

import html
import json
from typing import Any

SHAPE_TYPES = frozenset(
    {"polygon", "rectangle", "rotation", "quadrilateral", "point", "line", "circle", "linestrip", "cuboid"}
)
_SHAPE_KEYS = frozenset(
    {
        "label",
        "score",
        "points",
        "group_id",
        "difficult",
        "shape_type",
        "flags",
        "description",
        "attributes",
        "kie_linking",
        "locked",
    }
)
_FILE_KEYS = frozenset({"version", "flags", "checked", "shapes", "imagePath", "imageData", "imageHeight", "imageWidth"})


def saved_by_xanylabeling(content: bytes) -> bytes:
    """What it writes after opening a file and changing nothing; raises where it refuses the file."""
    document = json.loads(content.decode("utf-8"))
    if document["imageData"] is not None:
        raise ValueError("the tests embed no image")
    checked, others = _marks(document)
    saved = {
        "version": "4.2.1",
        "flags": {str(name): bool(flag) for name, flag in document.get("flags", {}).items()},
        "checked": checked,
        "shapes": [_saved_shape(shape) for shape in document["shapes"]],
        "imagePath": document["imagePath"],
        "imageData": None,
        "imageHeight": document["imageHeight"],
        "imageWidth": document["imageWidth"],
        **others,
    }
    return json.dumps(saved, ensure_ascii=False, indent=2).encode("utf-8", "surrogatepass")


def _marks(document: dict[str, Any]) -> tuple[bool | str, dict[str, Any]]:
    checked = "failed" if document.get("checked") == "failed" else document.get("checked") is True
    others = {key: value for key, value in document.items() if key not in _FILE_KEYS}
    if "tags" in others:
        tags = others["tags"] if isinstance(others["tags"], list) else []
        texts = [tag.strip() for tag in tags if isinstance(tag, str)]
        others["tags"] = [*dict.fromkeys(tag for tag in texts if tag and "\n" not in tag and "\r" not in tag)]
    others["description"] = others.get("description", "")
    if not isinstance(others["description"], str):
        raise TypeError("the description goes into a text field")
    return checked, others


def _saved_shape(shape: dict[str, Any]) -> dict[str, Any]:
    shape_type = shape.get("shape_type", "polygon")
    if shape_type not in SHAPE_TYPES:
        raise ValueError(f"Unexpected shape_type: {shape_type}")
    html.escape(shape["label"])
    points = [(float(point[0]), float(point[1])) for point in shape["points"]]
    links = shape.get("kie_linking", [])
    if not isinstance(links, list) or any(
        not isinstance(link, list) or [*map(type, link)] != [int] * 2 for link in links
    ):
        raise ValueError("kie_linking must be a list of integer pairs")
    attributes = shape.get("attributes", {})
    if attributes:
        attributes.items()
    if shape_type == "rectangle":
        xs, ys = [x for x, _ in points], [y for _, y in points]
        left, top, right, bottom = min(xs), min(ys), max(xs), max(ys)
        points = [(left, top), (right, top), (right, bottom), (left, bottom)]
    saved = {key: value for key, value in shape.items() if key not in _SHAPE_KEYS}
    saved |= {
        "label": shape["label"],
        "score": shape.get("score"),
        "points": points,
        "group_id": shape.get("group_id"),
        "description": shape.get("description", ""),
        "difficult": shape.get("difficult", False),
        "shape_type": shape_type,
        "flags": shape.get("flags", {}),
        "attributes": attributes,
        "kie_linking": links,
    }
    if shape_type == "rotation":
        saved["direction"] = shape.get("direction", 0)
    if shape_type == "cuboid":
        saved.setdefault("cuboid3d", {"version": 1, "depth_vector": [b - a for a, b in zip(*points[::4], strict=True)]})
    return saved
