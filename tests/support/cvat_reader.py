"""A reader of CVAT's XML as strict as CVAT's own: what it needs must be there, and no label be unknown."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from typing import Any


def read_strictly(content: bytes) -> list[dict[str, Any]]:
    """The images of a document, each with its shapes.

    Raises:
        AssertionError, KeyError, ValueError: CVAT would refuse it.
    """
    root = ET.fromstring(content)
    assert root.tag == "annotations"
    assert root.findtext("version") == "1.1"
    labels = {label.findtext("name"): label for label in root.iterfind("meta/project/labels/label")}
    assert len(labels) == len(root.findall("meta/project/labels/label")), "label names are unique"
    assert None not in labels
    assert "" not in labels
    images = root.findall("image")
    sizes = {task.findtext("subset"): task.findtext("size") for task in root.iterfind("meta/project/tasks/task")}
    assert sizes, "Datumaro reads no project without subsets"
    found = Counter(image.attrib["subset"] for image in images)
    assert sizes == {subset: str(found[subset]) for subset in found} or not images
    assert [int(image.attrib["id"]) for image in images] == list(range(len(images)))
    return [
        {
            **image.attrib,
            "width": int(image.attrib["width"]),
            "height": int(image.attrib["height"]),
            "shapes": [_shape(shape, labels) for shape in image],
        }
        for image in images
    ]


def _shape(shape: ET.Element, labels: dict[str | None, ET.Element]) -> dict[str, Any]:
    label = labels[shape.attrib["label"]]
    attributes = {attribute.attrib["name"]: attribute.text or "" for attribute in shape.iterfind("attribute")}
    assert attributes.keys() <= {each.findtext("name") for each in label.iterfind("attributes/attribute")}
    assert shape.attrib["source"] == "manual"
    found: dict[str, Any] = {"kind": shape.tag, "label": shape.attrib["label"], "attributes": attributes}
    if shape.tag == "tag":
        return found
    assert label.findtext("type") == "any"
    assert shape.attrib["occluded"] in {"0", "1"}
    int(shape.attrib["z_order"])
    if shape.tag == "box":
        found["edges"] = [float(shape.attrib[edge]) for edge in ("xtl", "ytl", "xbr", "ybr")]
        found["rotation"] = float(shape.attrib.get("rotation", 0))
        assert 0 <= found["rotation"] < 360
    elif shape.tag == "polygon":
        found["points"] = [float(number) for point in shape.attrib["points"].split(";") for number in point.split(",")]
        assert len(found["points"]) >= 6
    elif shape.tag == "mask":
        runs = list(map(int, shape.attrib["rle"].split(",")))
        width, height = int(shape.attrib["width"]), int(shape.attrib["height"])
        assert sum(runs) == width * height
        found["runs"] = runs
        found["place"] = [int(shape.attrib["left"]), int(shape.attrib["top"]), width, height]
    else:
        raise AssertionError(f"CVAT knows no {shape.tag}")
    return found
