"""What an annotation says, in short, and what the annotations of a dataset say together."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from support.annotation_strategies import house_annotations

from imgsyncfs.annotations.classes import class_names
from imgsyncfs.annotations.house_format import (
    Annotation,
    BoundingBox,
    ClassificationLabel,
    ObjectLabel,
    RegressionLabel,
)
from imgsyncfs.annotations.label_counts import LabelCount, count_labels
from imgsyncfs.catalog.labels import MOST_VALUES, can_be_kept, dataset_labels


def boxes(*classes: str) -> ObjectLabel:
    return ObjectLabel("bbox", tuple(BoundingBox(name, 0, 0, 1, 1) for name in classes))


def test_objects_are_counted_by_class_and_classifications_keep_their_order() -> None:
    annotation = Annotation(
        labels=(
            boxes("person", "car", "person"),
            ClassificationLabel("Gender", "Female"),
            RegressionLabel("Age", 42),
            boxes("car"),
            ClassificationLabel("", "blurry"),
        )
    )
    assert count_labels(annotation) == (
        LabelCount("", "person", 2),
        LabelCount("", "car", 2),
        LabelCount("Gender", "Female", 0),
        LabelCount("", "blurry", 0),
    )


def test_a_flag_is_not_taken_for_an_object_of_the_same_name() -> None:
    annotation = Annotation(labels=(boxes("person"), ClassificationLabel("", "person")))
    assert count_labels(annotation) == (LabelCount("", "person", 1), LabelCount("", "person", 0))


@given(house_annotations)
def test_every_object_is_counted_once(annotation: Annotation) -> None:
    counts = count_labels(annotation)
    found = Counter(
        item.class_name for label in annotation.labels if isinstance(label, ObjectLabel) for item in label.objects
    )
    assert {count.label_value: count.object_count for count in counts if count.object_count} == found
    assert set(found) == class_names(annotation)
    assert len({(*count[:2], count.object_count > 0) for count in counts}) == len(counts)


def test_a_dataset_is_said_to_hold_what_its_annotations_hold() -> None:
    row = dataset_labels(
        "d",
        "1.0.0",
        [
            [LabelCount("", "person", 2), LabelCount("Gender", "Male", 0)],
            [LabelCount("", "car", 1), LabelCount("", "person", 1), LabelCount("Gender", "Female", 0)],
            [LabelCount("", "blurry", 0), LabelCount("", " ", 1)],
        ],
    )
    assert row.object_classes == ["car", "person"]
    assert row.label_values == {"": ["blurry"], "Gender": ["Female", "Male"]}


def test_a_label_of_free_text_does_not_fill_the_table_of_datasets() -> None:
    many = [[LabelCount("Caption", f"{number:06}", 0)] for number in range(MOST_VALUES + 5)]
    values = dataset_labels("d", "1.0.0", many).label_values["Caption"]
    assert (len(values), values[-1]) == (MOST_VALUES, f"{MOST_VALUES - 1:06}")


@given(st.text(max_size=5), st.sampled_from(["", "\0", "\udc80", "x" * 301]))
def test_what_no_database_takes_is_not_kept(text: str, odd: str) -> None:
    is_fine = not odd and can_be_kept(LabelCount("", text, 1))
    assert can_be_kept(LabelCount("", text + odd, 1)) == is_fine
