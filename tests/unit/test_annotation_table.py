"""The table of annotations, ``annotations.parquet``: each row says what the house annotation says."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from math import pi
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.annotation_strategies import house_annotations, unhurried
from support.document_entries import HEIGHT, WIDTH, entry, many_entries, shown_objects, written

from imgsyncfs.annotations.box_arrays import object_arrays
from imgsyncfs.annotations.geometry import decode_run_length, decompress_counts, reduce_angle
from imgsyncfs.annotations.house_format import (
    Annotation,
    BoundingBox,
    ClassificationLabel,
    Label,
    LabelledObject,
    Mask,
    ObjectLabel,
    Polygon,
    RegressionLabel,
    RotatedBox,
    UnknownLabel,
    dump_annotation,
    parse_annotation,
)
from imgsyncfs.errors import AnnotationError
from imgsyncfs.formats.contract import ImageInfo
from imgsyncfs.formats.dataset_documents import annotation_table
from imgsyncfs.formats.dataset_documents.annotation_table import COLUMNS, AnnotationTable
from imgsyncfs.formats.dataset_documents.contract import DocumentEntry, LossTally

IMAGE = ImageInfo("dataset", "a", "jpg", HEIGHT, WIDTH)


def table_of(entries: Iterable[DocumentEntry]) -> pa.Table:
    content, _ = written(AnnotationTable("2.0.0"), entries)
    return pq.read_table(io.BytesIO(content))


def rows_of(*entries: DocumentEntry) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = table_of(entries).to_pylist()
    return rows


def annotated(*labels: Label, checked: int = 1, **extra: Any) -> DocumentEntry:
    return DocumentEntry(IMAGE, "test", Annotation(label_checked=checked, labels=labels, extra=extra))


def known(row: dict[str, Any]) -> dict[str, Any]:
    """What a row says, without what it says nothing of."""
    return {name: value for name, value in row.items() if value is not None}


ABOUT = {
    "dataset": "dataset",
    "image": "a",
    "path": "dataset/a.jpg",
    "split": "test",
    "label_version": "2.0.0",
    "label_checked": 1,
    "label_index": 0,
}


def test_an_object_has_a_row_with_all_that_is_known_of_it() -> None:
    [row] = rows_of(annotated(ObjectLabel("bbox", (BoundingBox("face", 1, 2, 4, 6, {"score": 0.5}),))))
    assert known(row) == {
        **ABOUT,
        "label_type": "bbox",
        "object_index": 0,
        "class": "face",
        "x1": 1,
        "y1": 2,
        "x2": 4,
        "y2": 6,
        "x": 2.5,
        "y": 4,
        "w": 3,
        "h": 4,
        "a": 0,
        "area": 12,
        "extra": '{"score":0.5}',
    }


def test_a_rotated_box_keeps_its_numbers_with_the_angle_below_pi() -> None:
    [row] = rows_of(annotated(ObjectLabel("rbbox", (RotatedBox("face", 10, 20, 8, 4, pi / 2 + pi),))))
    assert [row[name] for name in ("x", "y", "w", "h", "a")] == [10, 20, 8, 4, pytest.approx(pi / 2)]
    assert [row[name] for name in ("x1", "y1", "x2", "y2")] == pytest.approx([8, 16, 12, 24])
    assert row["area"] == 32


def test_a_polygon_has_its_points_and_the_area_within_them() -> None:
    [row] = rows_of(annotated(ObjectLabel("poly", (Polygon("face", ((0, 0), (4, 0), (0, 3.5))),))))
    assert row["points"] == [0, 0, 4, 0, 0, 3.5]
    assert (row["area"], row["x2"], row["y2"]) == (7, 4, 3.5)


def test_a_polygon_without_points_is_nowhere_and_no_other_object_has_points() -> None:
    [nowhere, box] = rows_of(
        annotated(ObjectLabel("poly", (Polygon("face", ()),)), ObjectLabel("bbox", (BoundingBox("face", 1, 2, 4, 6),)))
    )
    assert (nowhere["points"], nowhere["x1"], nowhere["area"]) == ([], None, 0)
    assert box["points"] is None


def test_a_mask_has_its_run_lengths_its_size_and_its_pixels() -> None:
    [row] = rows_of(annotated(ObjectLabel("seg", (Mask("face", (4, 5), (5, 2, 13)),))))
    assert decompress_counts(row["mask"]).tolist() == [5, 2, 13]
    assert (row["mask_height"], row["mask_width"], row["area"]) == (4, 5, 2)
    assert [row[name] for name in ("x1", "y1", "x2", "y2")] == [1, 1, 2, 3]


def test_words_and_numbers_about_the_image_have_rows_of_their_own() -> None:
    word, number = rows_of(annotated(ClassificationLabel("Gender", "Female"), RegressionLabel("Age", 42, {"by": "A"})))
    assert known(word) == {**ABOUT, "label_type": "clf", "label_name": "Gender", "label": "Female"}
    about = {**ABOUT, "label_index": 1, "label_type": "reg"}
    assert known(number) == {**about, "label_name": "Age", "number": 42, "extra": '{"by":"A"}'}


def test_a_label_that_nobody_knows_is_there_as_it_is() -> None:
    content = {"label_type": "labelme", "shape": {"points": [[1, 2]]}}
    [row] = rows_of(annotated(UnknownLabel(content)))
    assert row["label_type"] == "labelme"
    assert orjson.loads(row["extra"]) == content


def test_an_image_without_labels_or_without_an_annotation_has_no_row() -> None:
    assert rows_of(annotated(), DocumentEntry(IMAGE, "train", None)) == []


def test_a_table_without_rows_has_all_columns_with_their_types() -> None:
    empty, full = table_of([]), table_of([entry(BoundingBox("face", 1, 2, 4, 6))])
    assert empty.schema == full.schema
    assert empty.schema.names == list(COLUMNS)


@pytest.mark.parametrize(("checked", "shown"), [(0, 0), (1, 1), (2, 0), (10**30, 0)])
def test_whether_somebody_has_checked_an_image_is_one_or_zero(checked: int, shown: int) -> None:
    [row] = rows_of(annotated(ClassificationLabel("a", "b"), checked=checked))
    assert row["label_checked"] == shown


def test_keys_that_have_no_place_in_a_row_are_counted() -> None:
    content = annotated(ObjectLabel("bbox", (BoundingBox("face", 1, 2, 4, 6, {"score": 1}),), {"by": "A"}), camera="C")
    _, [loss] = written(AnnotationTable("2.0.0"), [content])
    assert (loss.what, loss.count) == ("keys of annotations and labels that the house format does not know", 2)


@unhurried
@given(st.lists(house_annotations, max_size=4))
def test_the_rows_say_what_the_annotations_say(made: list[Annotation]) -> None:
    # What is in files: what JSON can hold.
    annotations = list(filter(None, map(readable, made)))
    entries = [
        DocumentEntry(ImageInfo("dataset", f"i{number}", "jpg"), "train", annotation)
        for number, annotation in enumerate(annotations)
    ]
    expected = [row for each in entries for row in expected_rows(each)]
    rows = rows_of(*entries)
    assert [{name: row[name] for name in each} for row, each in zip(rows, expected, strict=True)] == expected
    for row in rows:
        if row["mask"] is not None:
            decode_run_length((row["mask_height"], row["mask_width"]), row["mask"])


def readable(annotation: Annotation) -> Annotation | None:
    try:
        return parse_annotation(dump_annotation(annotation))
    except AnnotationError:
        return None


def expected_rows(each: DocumentEntry) -> list[dict[str, Any]]:
    assert each.annotation is not None
    rows: list[dict[str, Any]] = []
    for place, label in enumerate(each.annotation.labels):
        about = {"image": each.image.name, "label_index": place}
        if isinstance(label, ObjectLabel):
            about["label_type"] = label.label_type
            boxes = object_arrays(label.objects)
            for number, item in enumerate(label.objects):
                numbers = dict(zip(("x1", "y1", "x2", "y2"), shown(boxes.xyxy[number]), strict=True))
                rows.append({**about, "object_index": number, **numbers, **expected_object(item)})
        elif isinstance(label, ClassificationLabel):
            rows.append({**about, "label_type": "clf", "label_name": label.label_name, "label": label.label})
        elif isinstance(label, RegressionLabel):
            rows.append({**about, "label_type": "reg", "label_name": label.label_name, "number": float(label.label)})
        else:
            rows.append({**about, "label_type": label.content["label_type"], "class": None})
    return rows


def shown(numbers: Sequence[float]) -> list[float | None]:
    return [None if np.isnan(number) else float(number) for number in numbers]


def expected_object(item: LabelledObject) -> dict[str, Any]:
    values: dict[str, Any] = {"class": item.class_name, "extra": item.extra or None}
    if item.extra:
        values["extra"] = orjson.dumps(item.extra).decode()
    if isinstance(item, RotatedBox):
        sides = [float(each) for each in (item.x, item.y, abs(item.w), abs(item.h))]
        values |= dict(zip("xywha", [*sides, float(reduce_angle(item.a))], strict=True))
    if isinstance(item, Polygon):
        values["points"] = [float(number) for point in item.points for number in point]
    if isinstance(item, Mask):
        values["mask_height"], values["mask_width"] = item.size
    return values


@unhurried
@given(st.lists(shown_objects, max_size=5))
def test_the_same_entries_give_the_same_bytes(items: list[LabelledObject]) -> None:
    first, second = (written(AnnotationTable("1.0.0"), [entry(*items)])[0] for _ in range(2))
    assert first == second


def test_rows_come_in_groups_and_are_all_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(annotation_table, "ROW_GROUP_ROWS", 100)
    content, _ = written(AnnotationTable("1.0.0"), many_entries(50))
    file = pq.ParquetFile(io.BytesIO(content))
    # Eight objects and a word an image.
    assert file.metadata.num_rows == 450
    *full, last = [file.metadata.row_group(place).num_rows for place in range(file.num_row_groups)]
    # A group ends with a label.
    assert all(100 <= count < 108 for count in full)
    assert 0 < last <= 100


def test_long_polygons_end_a_group_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(annotation_table, "ROW_GROUP_BYTES", 1 << 20)
    outline = Polygon("face", tuple((float(number), number / 2) for number in range(5000)))
    content, _ = written(AnnotationTable("1.0.0"), [entry(outline, name=f"i{number}") for number in range(50)])
    assert pq.ParquetFile(io.BytesIO(content)).num_row_groups > 2


def test_the_file_is_written_while_entries_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(annotation_table, "ROW_GROUP_ROWS", 100)
    entries = many_entries(1000)
    chunks = AnnotationTable("1.0.0").chunks(entries, (), LossTally())
    assert next(chunks)
    assert len(list(entries)) > 900
