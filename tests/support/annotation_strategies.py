"""Hypothesis strategies for house annotations: every label type, odd names, unknown keys, numbers small and huge."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from imgsyncfs.annotations.house_format import (
    Annotation,
    BoundingBox,
    ClassificationLabel,
    Mask,
    ObjectLabel,
    Polygon,
    RegressionLabel,
    RotatedBox,
    UnknownLabel,
)
from imgsyncfs.catalog.naming import LABEL_TYPES

LARGEST_INTEGER = 2**63 - 1

# An example is fast, but the machine that runs the tests may be busy with something else for a while.
unhurried = settings(deadline=None)

texts = st.text(max_size=12)
names = st.one_of(st.sampled_from(["person", "face", "人", "", " ", "a & <b>", "\x01\ufffe\r\n", "😀"]), texts)
finite_floats = st.floats(allow_nan=False, allow_infinity=False)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-LARGEST_INTEGER, LARGEST_INTEGER) | finite_floats | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)

coordinates: st.SearchStrategy[float] = st.floats(-100, 4000) | st.integers(-100, 4000)
any_numbers: st.SearchStrategy[float] = st.one_of(
    coordinates, coordinates, finite_floats, st.integers(-LARGEST_INTEGER, LARGEST_INTEGER)
)
angles = st.one_of(st.floats(-10, 10), st.sampled_from([0, 0.0, 3.1415926, 1.5707963267948966, -1e-9]), any_numbers)


def compress_counts(counts: Sequence[int]) -> str:
    """Write run lengths as COCO's compressed text (``rleToString`` of maskApi.c)."""
    characters = bytearray()
    for index, count in enumerate(counts):
        value = count - counts[index - 2] if index > 2 else count  # maskApi.c's rule: from the fourth on
        more = True
        while more:
            bits = value & 0x1F
            value >>= 5
            more = value != (-1 if bits & 0x10 else 0)
            characters.append(48 + (bits | 0x20 if more else bits))
    return characters.decode("ascii")


def extras(*known: str) -> st.SearchStrategy[dict[str, Any]]:
    """Unknown keys: none that are `known`, among them those that the formats use for what only their tools know."""
    of_tools = st.sampled_from(["labelme", "rolabelimg", "pose", "truncated", "difficult", "imgsyncfs", "score"])
    labelme = st.fixed_dictionaries(
        {},
        optional={
            "group_id": st.integers(0, 9) | json_values,
            "description": texts | json_values,
            "flags": st.dictionaries(texts, st.booleans(), max_size=2) | json_values,
            "attributes": json_values,
        },
    )
    keys = st.one_of(texts, of_tools).filter(lambda key: key not in known)
    values = st.one_of(json_values, labelme)
    return st.one_of(st.just({}), st.just({}), st.dictionaries(keys, values, max_size=3))


def run_lengths(size: tuple[int, int]) -> st.SearchStrategy[tuple[int, ...] | str]:
    """Run lengths that fill a mask, as numbers or as COCO's compressed text."""
    pixels = size[0] * size[1]
    cuts = st.lists(st.integers(0, pixels), max_size=8).map(lambda places: [0, *sorted(places), pixels])
    counts = cuts.map(lambda edges: tuple(b - a for a, b in pairwise(edges)))
    return st.one_of(counts, counts.map(compress_counts))


def bounding_boxes(numbers: st.SearchStrategy[float] = any_numbers) -> st.SearchStrategy[BoundingBox]:
    """Upright boxes; some with the corners the wrong way round."""
    known = ("class", "x1", "y1", "x2", "y2")
    return st.builds(BoundingBox, names, numbers, numbers, numbers, numbers, extras(*known))


def rotated_boxes(
    numbers: st.SearchStrategy[float] = any_numbers, turns: st.SearchStrategy[float] = angles
) -> st.SearchStrategy[RotatedBox]:
    """Rotated boxes; some with sizes below 0."""
    known = ("class", "x", "y", "w", "h", "a")
    return st.builds(RotatedBox, names, numbers, numbers, numbers, numbers, turns, extras(*known))


def polygons(numbers: st.SearchStrategy[float] = any_numbers) -> st.SearchStrategy[Polygon]:
    """Outlines of no points and more; some closed by repeating their first point."""
    points = st.lists(st.tuples(numbers, numbers), max_size=6).map(tuple)
    closed = points.map(lambda each: (*each, *each[:1]))
    return st.builds(Polygon, names, st.one_of(points, closed), extras("class", "points"))


@st.composite
def masks(draw: st.DrawFn) -> Mask:
    """Small masks; some without pixels."""
    size = draw(st.tuples(st.integers(0, 8), st.integers(0, 8)))
    of_run_length = draw(extras("size", "counts"))
    extra = draw(extras("class", "rle"))
    return Mask(draw(names), size, draw(run_lengths(size)), {**extra, "rle": of_run_length} if of_run_length else extra)


object_labels: st.SearchStrategy[ObjectLabel] = st.one_of(
    *(
        st.builds(
            ObjectLabel, st.just(label_type), st.lists(objects, max_size=4).map(tuple), extras("label_type", "object")
        )
        for label_type, objects in (
            ("bbox", bounding_boxes()),
            ("rbbox", rotated_boxes()),
            ("poly", polygons()),
            ("seg", masks()),
        )
    )
)
_value_extras = extras("label_type", "label_name", "label")
_shape_points = st.lists(st.tuples(coordinates, coordinates).map(list), min_size=1, max_size=4)
labelme_labels = st.builds(
    lambda shape, others: UnknownLabel({**others, "label_type": "labelme", "shape": shape}),
    st.one_of(
        st.fixed_dictionaries(
            {
                "label": names,
                "points": _shape_points,
                "shape_type": st.sampled_from(["point", "points", "circle", "line", "linestrip", "rotation", "future"]),
            },
            optional={
                "group_id": st.none() | st.integers(0, 9) | json_values,
                "description": st.none() | texts | json_values,
                "flags": st.none() | st.dictionaries(texts, st.booleans(), max_size=2) | json_values,
                "mask": st.none(),
                "attributes": json_values,
            },
        ),
        json_values,
    ),
    st.dictionaries(st.sampled_from(["id", "score"]), json_values),
)
"""Shapes that the house format has no object for; some were written by hand, and not as labelme would."""
unknown_labels = st.one_of(
    labelme_labels,
    st.builds(
        lambda label_type, others: UnknownLabel({**others, "label_type": label_type}),
        texts.filter(lambda label_type: label_type not in LABEL_TYPES),
        st.dictionaries(texts, json_values, max_size=3),
    ),
)
labels = st.one_of(
    object_labels,
    object_labels,
    st.builds(ClassificationLabel, names, names, _value_extras),
    st.builds(RegressionLabel, names, any_numbers, _value_extras),
    unknown_labels,
)
sides = st.none() | st.integers(0, 5000)
house_annotations = st.builds(
    Annotation,
    anno_version=st.sampled_from(["0.2.0", "0.3.0"]) | texts,
    label_checked=st.integers(0, 1),
    height=sides,
    width=sides,
    depth=st.none() | st.integers(0, 4),
    ext=st.none() | st.sampled_from(["jpg", "PNG", ""]),
    labels=st.lists(labels, max_size=5).map(tuple),
    extra=extras("anno_version", "label_checked", "height", "width", "depth", "ext", "labels"),
)
