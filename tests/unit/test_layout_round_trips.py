"""House annotations, written in a tool's layout and read back: the same within the layout's rounding."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.document_entries import CLASSES, HEIGHT, WIDTH, covering_masks, objects_of
from support.examples import examples
from support.layout_folders import write_layout

from imgsyncfs.annotations.geometry import corners, decode_run_length
from imgsyncfs.annotations.house_format import (
    Annotation,
    BoundingBox,
    ClassificationLabel,
    Label,
    LabelledObject,
    Mask,
    Polygon,
    RegressionLabel,
    RotatedBox,
)
from imgsyncfs.formats.contract import ImageInfo
from imgsyncfs.formats.dataset_documents.contract import grouped_labels
from imgsyncfs.tools.layouts.contract import AnnotationEntry, AnnotationFile, FoundImage
from imgsyncfs.tools.layouts.reading import format_of, read_entries, read_file
from imgsyncfs.tools.layouts.registry import read_folder

few = settings(deadline=None, max_examples=examples(25))
"""Each example writes a folder."""

names = st.sampled_from(CLASSES[:2])
xs, ys = st.floats(15, 45), st.floats(15, 30)
sides = st.floats(2, 12)
upright = st.builds(lambda name, x, y, w, h: BoundingBox(name, x, y, x + w, y + h), names, xs, ys, sides, sides)
rotated = st.builds(
    lambda name, x, y, w, h, a: RotatedBox(name, x, y, w + 1, h, a), names, xs, ys, sides, sides, st.floats(0.05, 3.0)
)
pentagons = st.builds(
    lambda name, x, y, r: Polygon(
        name, tuple((x + r * float(np.cos(t)), y + r * float(np.sin(t))) for t in np.linspace(0, 5, 5))
    ),
    names,
    xs,
    ys,
    st.floats(4, 12),
)

SHOWN: dict[str, tuple[st.SearchStrategy[LabelledObject], float]] = {
    "yolo": (upright, 2e-4),
    "yolo-obb": (rotated, 2e-3),
    "yolo-seg": (pentagons, 2e-4),
    "dota": (rotated, 1e-3),
    "voc": (upright, 0.5),
    "xanylabeling": (st.one_of(upright, rotated, pentagons), 1e-3),
    "coco": (st.one_of(upright, rotated, pentagons, covering_masks()), 1e-3),
    "cvat": (st.one_of(upright, rotated, pentagons, covering_masks()), 1e-3),
    "hf": (upright, 1e-4),
}
"""What each layout shows as it is, and how many pixels it may be off."""


def read_image(folder: Path, found: FoundImage, before: Annotation | None = None) -> Annotation | None:
    """The annotation of an image of a folder."""
    image = ImageInfo("set", found.stem, found.ext, HEIGHT, WIDTH, 3)
    source = found.sources[0]
    if isinstance(source, AnnotationFile):
        content = (folder / source.file.path).read_bytes()
        known = format_of(source, content)
        assert known is not None
        return read_file(source, known, content, before, image).annotation
    entries = [each for each in found.sources if isinstance(each, AnnotationEntry)]
    counted = read_entries(entries, before, image)
    return None if counted is None else counted[1].annotation


def annotation_of(items: Sequence[LabelledObject]) -> Annotation:
    return Annotation(label_checked=1, height=HEIGHT, width=WIDTH, depth=3, ext="jpg", labels=grouped_labels(items))


def pixels(item: LabelledObject) -> npt.NDArray[np.float64]:
    """The corners of an object, or the pixels of a mask."""
    if isinstance(item, BoundingBox):
        return np.array([[item.x1, item.y1], [item.x2, item.y2]], np.float64)
    if isinstance(item, RotatedBox):
        return np.array(corners([item.x, item.y, item.w, item.h, item.a])[0], np.float64)
    if isinstance(item, Mask):
        return np.array(decode_run_length(item.size, item.counts), np.float64)
    return np.array(item.points, np.float64)


@pytest.mark.parametrize("layout", SHOWN)
def test_what_a_layout_shows_comes_back_within_its_rounding(layout: str) -> None:
    strategy, rounding = SHOWN[layout]

    @few
    @given(st.lists(strategy, min_size=1, max_size=4))
    def check(items: list[LabelledObject]) -> None:
        written = annotation_of(items)
        with tempfile.TemporaryDirectory() as name:
            folder = write_layout(Path(name), layout, {"a": written})
            (image,) = read_folder(folder, layout=layout).images
            found = read_image(folder, image)
        was, now = objects_of(written), objects_of(found)
        assert [(type(item), item.class_name) for item in now] == [(type(item), item.class_name) for item in was]
        for one, other in zip(was, now, strict=True):
            assert pixels(other) == pytest.approx(pixels(one), abs=rounding)

    check()


@pytest.mark.parametrize("layout", SHOWN)
def test_beside_the_annotation_that_it_was_written_from_nothing_changes(layout: str) -> None:
    anything = st.one_of(upright, rotated, pentagons, covering_masks())

    @few
    @given(st.lists(anything, max_size=5), st.sampled_from([0, 1]))
    def check(items: list[LabelledObject], checked: int) -> None:
        labels: tuple[Label, ...] = grouped_labels(items)
        labels += (ClassificationLabel("Gender", "Female"), RegressionLabel("Age", 42.5))
        before = replace(annotation_of(()), label_checked=checked, labels=labels, extra={"camera": 7})
        with tempfile.TemporaryDirectory() as name:
            folder = write_layout(Path(name), layout, {"a": before})
            (image,) = read_folder(folder).images
            found = read_image(folder, image, before)
        assert found == before

    check()
