"""The list of images, ``images.csv``: a line for each says what the house annotation says."""

from __future__ import annotations

import csv
import io
from typing import Any

from support.document_entries import HEIGHT, WIDTH, entry, many_entries, written

from imgsyncfs.annotations.house_format import (
    Annotation,
    BoundingBox,
    ClassificationLabel,
    Label,
    RegressionLabel,
    RotatedBox,
)
from imgsyncfs.formats.contract import ImageInfo
from imgsyncfs.formats.dataset_documents.contract import DocumentEntry
from imgsyncfs.formats.dataset_documents.image_list import COLUMNS, ImageList

IMAGE = ImageInfo("dataset", "a", "jpg", HEIGHT, WIDTH)


def lines_of(*entries: DocumentEntry) -> list[dict[str, Any]]:
    content, losses = written(ImageList("2.0.0"), entries)
    assert losses == ()
    return list(csv.DictReader(io.StringIO(content.decode(), newline="")))


def about(*labels: Label, image: ImageInfo = IMAGE) -> DocumentEntry:
    return DocumentEntry(image, "test", Annotation(label_checked=1, labels=labels))


def test_a_line_says_where_the_image_is_and_which_objects_it_shows() -> None:
    face, person = BoundingBox("face", 1, 2, 4, 6), RotatedBox("person", 9, 9, 4, 2, 1)
    [line] = lines_of(entry(face, person, BoundingBox("face", 5, 5, 6, 6), split="validation"))
    assert line == {
        "path": "dataset/a.jpg",
        "split": "validation",
        "label_version": "2.0.0",
        "label_checked": "1",
        "width": str(WIDTH),
        "height": str(HEIGHT),
        "objects": "3",
        "classes": "face=2;person=1",
        "values": "",
    }


def test_words_and_numbers_about_the_image_are_its_values() -> None:
    [line] = lines_of(about(ClassificationLabel("Gender", "Female"), RegressionLabel("Age", 42)))
    assert (line["objects"], line["values"]) == ("0", "Gender=Female;Age=42")


def test_an_image_that_nobody_has_looked_at_is_in_the_list_and_unchecked() -> None:
    unseen = DocumentEntry(ImageInfo("dataset", "b", "png"), "train", None)
    [line] = lines_of(unseen)
    assert (line["path"], line["label_checked"], line["width"]) == ("dataset/b.png", "0", "")


def test_names_with_commas_quotes_and_line_ends_come_back() -> None:
    odd = ImageInfo("dataset", 'a,"b"\nc', "jpg")
    [line] = lines_of(about(image=odd))
    assert line["path"] == 'dataset/a,"b"\nc.jpg'


def test_a_name_that_no_text_file_can_hold_spoils_no_other_line() -> None:
    first, second = lines_of(about(image=ImageInfo("dataset", "a\udcff", "jpg")), about())
    assert (first["path"], second["path"]) == ("dataset/a\\udcff.jpg", "dataset/a.jpg")


def test_a_long_list_is_written_in_parts_with_one_heading() -> None:
    lines = lines_of(*many_entries(2000, objects=2))
    assert len(lines) == 2000
    assert {line["objects"] for line in lines} == {"2"}
    assert list(lines[0]) == list(COLUMNS)
