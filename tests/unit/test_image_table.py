"""The table of images, ``images.parquet``: what the listing says of each."""

from __future__ import annotations

import io
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from imgsyncfs.catalog.listing import Listing, build_listing
from imgsyncfs.catalog.rows import AnnotationRow, DatasetRow, ImageRow
from imgsyncfs.library import image_table
from imgsyncfs.library.image_table import COLUMNS, image_table_chunks

MD5 = "0123456789abcdef0123456789abcdef"


def listing_of(*images: ImageRow, annotations: tuple[AnnotationRow, ...] = ()) -> Listing:
    row = DatasetRow("d", "2.0.0", "rgb", ("person",), (), ("bbox",), len(images), "", "file:///d", 1, 5)
    return build_listing(row, images, annotations)


def image(name: str = "a", *, ext: str = "jpg", height: int = 30, width: int = 40, depth: int = 3) -> ImageRow:
    return ImageRow(name, ext, height, width, depth, 100, MD5, f"b{name}", 0, 0, "e", 1_700_000_000)


def rows_of(listing: Listing, splits: list[int] | None = None) -> list[dict[str, Any]]:
    column = None if splits is None else np.array(splits, np.uint8)
    content = b"".join(image_table_chunks(listing, column))
    rows: list[dict[str, Any]] = pq.read_table(io.BytesIO(content)).to_pylist()
    return rows


def test_an_image_has_a_row_with_all_that_the_listing_says() -> None:
    annotation = AnnotationRow("a", 0, 2, 50, "", "c", 0, "e", 8)
    [row] = rows_of(listing_of(image(), annotations=(annotation,)), [2])
    assert row == {
        "dataset": "d",
        "image": "a",
        "file_name": "a.jpg",
        "path": "d/a.jpg",
        "split": "test",
        "label_version": "2.0.0",
        "height": 30,
        "width": 40,
        "depth": 3,
        "orientation": 1,
        "bytes": 100,
        "md5": MD5,
        "modified_at": datetime(2023, 11, 14, 22, 13, 20),  # noqa: DTZ001 - without a time zone, as the column is
        "has_annotation": True,
        "is_labelled": True,
    }


def test_what_is_not_known_is_null() -> None:
    unknown = ImageRow("a", "png", 0, 0, 0, 100, "", "b", 0, 0, "e", 7)
    [row] = rows_of(listing_of(unknown))
    assert [row[name] for name in ("height", "width", "depth", "md5")] == [None] * 4
    assert row["split"] == "train"


@pytest.mark.parametrize(
    ("checked", "objects", "is_labelled"), [(0, 0, False), (1, 0, True), (0, 1, True), (1, 1, True)]
)
def test_an_image_checked_and_empty_is_labelled_and_one_that_nobody_has_looked_at_is_not(
    checked: int, objects: int, *, is_labelled: bool
) -> None:
    [row] = rows_of(listing_of(image(), annotations=(AnnotationRow("a", checked, objects, 50, "", "c", 0, "e", 8),)))
    assert (row["has_annotation"], row["is_labelled"]) == (True, is_labelled)


def test_a_dataset_without_images_gives_a_table_without_rows() -> None:
    content = b"".join(image_table_chunks(listing_of(), None))
    assert pq.read_schema(io.BytesIO(content)).names == list(COLUMNS)
    assert rows_of(listing_of()) == []


def test_rows_come_in_groups_and_are_all_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_table, "ROW_GROUP_ROWS", 7)
    listing = listing_of(*(image(f"i{number:02}", ext="jpg" if number % 2 else "png") for number in range(20)))
    rows = rows_of(listing, [number % 3 for number in range(20)])
    assert [row["file_name"] for row in rows] == [
        f"i{number:02}.{'jpg' if number % 2 else 'png'}" for number in range(20)
    ]
    assert [row["split"] for row in rows] == [("train", "validation", "test")[number % 3] for number in range(20)]
